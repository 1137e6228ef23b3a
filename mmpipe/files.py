"""Reading files that strangers made, and writing files that nobody sees half-written."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpipe import processes
from mmpipe.errors import SampleError

_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
"""Why a good file cannot be read: too many are open, memory or disk fails. No row is to blame."""
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""What a write may fail of, often told without the name of the file."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def safe_join(root: Path, name: str) -> Path:
    """`root/name`, where that lies below `root` after links are followed.

    Raises SampleError `path-escapes` for absolute paths, `..` that leaves, links out, URLs and NUL.
    """
    if "\0" in name or "://" in name or name.startswith(("/", "~", "file:")):
        raise SampleError("path-escapes", f"{name!r} is not a relative path below the manifest's folder")
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a lone surrogate
        raise SampleError("path-escapes", f"{name!r} leads nowhere") from None
    if not path.is_relative_to(base):
        raise SampleError("path-escapes", f"{name!r} leaves the data folder")
    return root / name


def read_guarded(path: Path, *, max_bytes: int) -> bytes:
    """The whole file, read once. Never blocks on a FIFO, never reads a device or more than `max_bytes`.

    Raises SampleError `file-missing`, `file-not-regular`, `file-too-large` or `file-empty`, and OSError with
    the file's name where the machine fails and not the file: too many are open, an error of the disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SampleError("file-missing", f"{path.name!r} does not exist") from None
    except OSError as error:
        if error.errno in _MACHINE:
            raise
        raise SampleError("file-not-regular", f"{path.name!r} cannot be opened ({error.strerror})") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SampleError("file-not-regular", f"{path.name!r} is not a regular file")
        if status.st_size > max_bytes:
            raise SampleError("file-too-large", f"{status.st_size:,} bytes, {max_bytes:,} are allowed")
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            data = file.read(min(max_bytes, status.st_size) + 1)  # at once: memory for so many is set aside
            while len(data) < status.st_size and (more := file.read(max_bytes + 1 - len(data))):
                data += more
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)
    if not data:
        raise SampleError("file-empty", "empty (0 bytes)")
    return data


def sha256(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON whose bytes depend on the value alone: sorted keys, no NaN, two spaces, a final newline."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; on success it is synced and renamed to `path`.

    On any failure the temporary is removed and `path` stays as it was; an OSError of the disk names `path`.
    What processes that were killed left of `path` is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with _named(path, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path` to fill; on success it takes the place of `path`, else it goes.

    What was there stays until that moment, and a kill leaves the one or the other. Else as `atomic_path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with _named(path, temporary):
            temporary.mkdir()
            yield temporary
            _take_place(temporary, path)
            _sync_folder(path.parent)
    finally:
        _remove(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON, atomically."""
    write_bytes(path, canonical_json(value).encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """A name beside `path` that is this process's own; those that dead processes left are removed."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old)?\.tmp")
    for name in os.listdir(path.parent):  # noqa: PTH208 (names alone, and quicker)
        found = pattern.fullmatch(name)
        if found and (int(found[1]) == os.getpid() or not processes.alive(int(found[1]))):
            _remove(path.with_name(name))
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """An OSError of the disk, which often names no file or the temporary, names `path`."""
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in _DISK
        if nameless or error.filename == os.fspath(temporary):
            error.filename = os.fspath(path)
        raise


def _take_place(fresh: Path, path: Path) -> None:
    """Rename `fresh` to `path`; what was there is then at `fresh`, or removed."""
    if not os.path.lexists(path):
        fresh.replace(path)
    elif not _exchange(fresh, path):
        aside = fresh.with_suffix(".old.tmp")
        path.replace(aside)
        fresh.replace(path)
        _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (rename(2)); False where the system or the file system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return swap is not None and swap(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
