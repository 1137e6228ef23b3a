"""DVC's own lock file, healed after a kill: what no living process can have written is taken away."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpipe import files, processes
from mmpipe.errors import LockedError, NotFoundError

PATIENCE_S = 3.0
"""DVC holds the guard of its lock file for some milliseconds at a time."""
DOUBT_S = 3.0
"""How far the times of processes and files may be apart: a boot's is in whole seconds, clocks are set."""


def heal(root: Path) -> list[str]:
    """Remove from DVC's lock file what blocks every later run for nothing; say what was removed.

    That is a file that a kill left empty or half-written, and entries of a process that is dead or whose
    number another program has now: one that is no `dvc` and began after the lock was last written. All other
    entries stay, and raise LockedError (`locked`). Raises NotFoundError outside of a folder with DVC.
    """
    folder = _dvc_folder(root) / "tmp"
    lock = folder / "rwlock"
    if not lock.exists():
        return []
    with _guard(folder / "rwlock.lock"):
        if not lock.exists():
            return []
        try:
            entries = _entries(json.loads(lock.read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError):
            lock.unlink()
            return [f"removed {lock}: it is no lock file, a kill left it so"]
        written = lock.stat()
        pids = sorted({info["pid"] for _, _, info in entries})
        owners = {pid for pid in pids if _may_own(pid, written.st_mtime)}
        held = [entry for entry in entries if entry[2]["pid"] in owners]
        _write(lock, held)
        if held:  # the time tells the next call what this one knew
            os.utime(lock, ns=(written.st_atime_ns, written.st_mtime_ns))
    if held:
        _, path, info = held[0]
        what = f"dvc {info['cmd']} with process number {info['pid']} is at work on {path}"
        raise LockedError("locked", what, where=str(lock))
    return [f"removed the entries of process {pid}: it is no dvc any more" for pid in pids]


def _dvc_folder(root: Path) -> Path:
    for folder in (root.resolve(), *root.resolve().parents):
        if (folder / ".dvc").is_dir():
            return folder / ".dvc"
    raise NotFoundError("workspace", "there is no .dvc here or above", where=str(root))


def _entries(tree: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(`read` or `write`, path, {pid, cmd}) of each entry. Raises where DVC itself would refuse the file."""
    writers = [("write", path, info) for path, info in tree.get("write", {}).items()]
    readers = [("read", path, info) for path, infos in tree.get("read", {}).items() for info in infos]
    for _, _, info in (found := [*writers, *readers]):
        if type(info["pid"]) is not int or not isinstance(info["cmd"], str):
            raise TypeError(info)
    return found


def _write(lock: Path, entries: list[tuple[str, str, dict[str, Any]]]) -> None:
    """The lock file with these entries; without any there is none."""
    if not entries:
        lock.unlink()
        return
    tree: dict[str, Any] = {"write": {path: info for kind, path, info in entries if kind == "write"}}
    tree["read"] = {}
    for _, path, info in (entry for entry in entries if entry[0] == "read"):
        tree["read"].setdefault(path, []).append(info)
    files.write_bytes(lock, json.dumps(tree).encode())


def _may_own(pid: int, written: float) -> bool:
    """Whether a process may hold an entry of a lock file that was last written at that time.

    One that began later cannot, unless it is a `dvc` by its words; a program that uses DVC as a library has
    no such word. What nothing tells counts as yes: an entry too many delays a run, one too few breaks two.
    """
    if not processes.alive(pid):
        return False
    began = processes.began(pid)
    return began is None or began <= written + DOUBT_S or _is_dvc(pid)


def _is_dvc(pid: int) -> bool:
    """Whether this process has `dvc` among its words."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) == b"dvc" for word in words)  # noqa: PTH119


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Hold what DVC itself holds (zc.lockfile) while it rewrites its lock file."""
    with path.open("a+b") as file:
        until = time.monotonic() + PATIENCE_S
        while not _locked(file.fileno()):
            if time.monotonic() > until:
                owner = path.read_text(errors="replace").strip() or "unknown"
                what = f"a dvc with process number {owner} holds it"
                raise LockedError("locked", what, where=str(path))
            time.sleep(0.05)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
