"""One npm package brought by `npm pack`, as it lies in the registry: nothing of it is installed or run."""

from pathlib import Path

from mmpipe import vcs
from mmpipe.corpora.package import Package


def bring(package: Package, folder: Path) -> Path:
    """A `package.Client`. The registry is the one that npm is set up for."""
    wanted = f"{package.name}@{package.version}"
    vcs.run("npm", "pack", wanted, "--ignore-scripts", "--silent", "--no-update-notifier", cwd=folder)
    return folder / package.file
