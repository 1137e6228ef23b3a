"""One Debian package brought by apt into a private folder: no root, the system's own lists untouched."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmpipe import files, progress, vcs
from mmpipe.errors import MmpipeError, NotFoundError, VerificationError

SYSTEM_LISTS = Path("/var/lib/apt/lists")


@dataclass(frozen=True)
class Package:
    """What exactly is wanted."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


def fetch(package: Package, downloads: Path) -> Path:
    """The package's file in `downloads`; one that is there already and has the right hash is used as it is.

    Raises NotFoundError `corpus-client` (no apt, no network, another release of the distribution) or
    VerificationError `corpus-hash`; both say where to put the file.
    """
    target = downloads / package.file
    if not target.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="apt-", dir=downloads) as folder:
            found = _download(package, Path(folder).resolve(), target)
            _check(package, found, target)
            found.replace(target)
    _check(package, target, target)
    return target


def _check(package: Package, found: Path, target: Path) -> None:
    digest = files.sha256_file(found)
    if digest != package.sha256:
        what = f"has sha256 {digest[:16]}… and not {package.sha256[:16]}… ({package.name} {package.version})"
        fix = f"put the file with sha256 {package.sha256} there, or set corpus: shapes in params.yaml"
        raise VerificationError("corpus-hash", what, where=str(target), fix=fix)


def _download(package: Package, folder: Path, target: Path) -> Path:
    """Try the lists that the system has, then fresh ones of our own."""
    attempts = (
        (_with_system_lists, _with_own_lists) if any(SYSTEM_LISTS.glob("*_Packages*")) else (_with_own_lists,)
    )
    words = ""
    for attempt in attempts:
        try:
            with _watched(folder, package.size):
                attempt(package, folder)
            return next(folder.glob(f"{package.name}_*.deb"))
        except NotFoundError:
            words = "this machine has no apt-get"
        except MmpipeError as error:
            words = error.what
    what = f"apt cannot bring {package.name} {package.version}: {words}"
    fix = f"put {package.file} (sha256 {package.sha256}) at {target}, or set corpus: shapes in params.yaml"
    raise NotFoundError("corpus-client", what, fix=fix)


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
