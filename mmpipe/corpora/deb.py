"""The files in a Debian package (deb(5)), read into memory: nothing is extracted to disk."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mmpipe import progress
from mmpipe.errors import VerificationError

MAX_MEMBER_BYTES = 10_000_000


def read(package: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Name → bytes of the regular files whose name is wanted; larger ones than the limit are left out.

    Raises VerificationError `corpus-hash` for what is no Debian package.
    """
    members: dict[str, bytes] = {}
    with package.open("rb") as file, progress.bar("unpack", package.stat().st_size) as advance:
        _seek_data(file, package)
        done = 0
        with tarfile.open(fileobj=file, mode="r|xz") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                small = member.isfile() and member.size <= MAX_MEMBER_BYTES
                if small and wanted(name) and (content := archive.extractfile(member)):
                    members[name] = content.read()
                advance(file.tell() - done)
                done = file.tell()
    return members


def _seek_data(file: BinaryIO, package: Path) -> None:
    """Go to the content of `data.tar.xz` in a .deb, which is an `ar` archive."""
    if file.read(8) == b"!<arch>\n":
        while len(head := file.read(60)) == 60:
            if head[:16].rstrip(b" /") == b"data.tar.xz":
                return
            size = int(head[48:58])
            file.seek(size + size % 2, 1)
    raise VerificationError("corpus-hash", "holds no data.tar.xz", where=str(package))
