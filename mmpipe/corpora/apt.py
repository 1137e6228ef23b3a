"""One Debian package brought by apt into a private folder: no root, the system's own lists untouched."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpipe import progress, vcs
from mmpipe.corpora.package import Package
from mmpipe.errors import MmpipeError, NotFoundError

SYSTEM_LISTS = Path("/var/lib/apt/lists")


def bring(package: Package, folder: Path) -> Path:
    """A `package.Client`. Tries the lists that the system has, then fresh ones of our own."""
    if any(SYSTEM_LISTS.glob("*_Packages*")):
        try:
            return _found(_with_system_lists, package, folder)
        except NotFoundError:
            raise
        except MmpipeError:
            return _found(_with_own_lists, package, folder)  # those lists may be old
    return _found(_with_own_lists, package, folder)


def _found(attempt: Callable[[Package, Path], None], package: Package, folder: Path) -> Path:
    with _watched(folder, package.size):
        attempt(package, folder)
    return next(folder.glob(f"{package.name}_*.deb"))


def _with_system_lists(package: Package, folder: Path) -> None:
    _apt(folder, SYSTEM_LISTS, "download", f"{package.name}={package.version}")


def _with_own_lists(package: Package, folder: Path) -> None:
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    _apt(folder, lists, "update")
    _apt(folder, lists, "download", f"{package.name}={package.version}")


def _apt(folder: Path, lists: Path, *command: str) -> None:
    """Run apt-get in `folder` with its state and caches there; the sources and keys are the system's."""
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    (folder / "state").mkdir()
    options = {
        "Dir::State": folder / "state",
        "Dir::State::lists": lists,
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # for root only: it may write where we say
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    vcs.run("apt-get", "-q", *flags, *command, cwd=folder, environment={"LC_ALL": "C"})


@contextmanager
def _watched(folder: Path, size: int) -> Iterator[None]:
    """A progress bar by the growing size of the package files in `folder`."""
    done = threading.Event()

    def watch() -> None:
        seen = 0
        while not done.wait(0.3):
            now = sum(path.stat().st_size for path in folder.glob("*.deb"))
            advance(now - seen)
            seen = now

    with progress.bar("download", size) as advance:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
