"""One package of a registry, exactly: its file brought once by the registry's client, checked by sha256."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmpipe import files
from mmpipe.errors import MmpipeError, NotFoundError, VerificationError


@dataclass(frozen=True)
class Package:
    """What exactly is wanted."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


Client = Callable[[Package, Path], Path]
"""Brings a package's file into an empty folder and says where in it. Raises MmpipeError, or NotFoundError
`command-missing` where it is not installed.
"""


def fetch(package: Package, downloads: Path, client: Client) -> Path:
    """The package's file in `downloads`; one that is there already and has the right hash is used as it is.

    Raises NotFoundError `corpus-client` (no client, no network, the version is gone) or VerificationError
    `corpus-hash`; both say where to put the file.
    """
    target = downloads / package.file
    if not target.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=downloads) as folder:
            found = _brought(package, Path(folder).resolve(), target, client)
            _check(package, found, target)
            found.replace(target)
    _check(package, target, target)
    return target


def _brought(package: Package, folder: Path, target: Path, client: Client) -> Path:
    try:
        return client(package, folder)
    except MmpipeError as error:
        what = f"cannot bring {package.name} {package.version}: {error.where or error.code} {error.what}"
        fix = (
            f"put {package.file} (sha256 {package.sha256}) at {target}, or set corpus: shapes in params.yaml"
        )
        raise NotFoundError("corpus-client", what, fix=fix) from None


def _check(package: Package, found: Path, target: Path) -> None:
    digest = files.sha256_file(found)
    if digest != package.sha256:
        what = f"has sha256 {digest[:16]}… and not {package.sha256[:16]}… ({package.name} {package.version})"
        fix = f"put the file with sha256 {package.sha256} there, or set corpus: shapes in params.yaml"
        raise VerificationError("corpus-hash", what, where=str(target), fix=fix)
