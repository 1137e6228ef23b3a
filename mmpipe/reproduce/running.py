"""`dvc repro` in a clean checkout: every stage as it ends, with what DVC recorded of it."""

import os
import re
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from mmpipe import lockfile, vcs
from mmpipe.errors import InvalidError, MmpipeError
from mmpipe.lockfile import Recorded

_START = re.compile(r"Running stage '(.+)':")
_OPTIONS = ("--force", "--no-run-cache", "--no-commit")


@dataclass(frozen=True)
class Ended:
    """A stage that ran to its end."""

    name: str
    seconds: float
    recorded: Recorded


def run(root: Path) -> Generator[Ended]:
    """Run all stages in the order of the pipeline. Closing the iterator ends `dvc` and its stage.

    Raises MmpipeError `command-failed` with the stage's last words.
    """
    lock = root / lockfile.NAME
    lock.unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, "DVC_SITE_CACHE_DIR": str(root / ".dvc/tmp/site")}
    name, since = "", time.monotonic()
    with vcs.dvc_lines("repro", *_OPTIONS, cwd=root, environment=environment) as lines:
        try:
            for line in lines:
                if found := _START.fullmatch(line):
                    now = time.monotonic()
                    if name:
                        yield Ended(name, now - since, _recorded(lock, name))
                    name, since = found[1].removeprefix("dvc.yaml:"), now
        except MmpipeError as error:
            raise MmpipeError(
                error.code, error.what, where=f"stage {name}" if name else error.where
            ) from None
        if name:
            yield Ended(name, time.monotonic() - since, _recorded(lock, name))


def code(root: Path) -> tuple[str, bool]:
    """The version of mmpipe that stages in a workspace run, and whether it is the workspace's own package."""
    source = "import mmpipe; print(mmpipe.__version__); print(mmpipe.__file__)"
    version, place = vcs.run(sys.executable, "-c", source, cwd=root).splitlines()
    return version, Path(place).resolve().is_relative_to(root.resolve())


def _recorded(lock: Path, name: str) -> Recorded:
    """DVC rewrites its lock file in place, in some milliseconds."""
    for _ in range(100):
        try:
            return lockfile.parse(lock.read_bytes())[name]
        except (KeyError, InvalidError, FileNotFoundError):
            time.sleep(0.02)
    raise MmpipeError("internal", f"DVC recorded nothing of stage {name}", where=str(lock))
