"""One retraining of a workspace at a time: a lock of the kernel's, which a dead process cannot hold."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmpipe import paths
from mmpipe.errors import LockedError

LOCK = paths.PRIVATE / "retrain.lock"
_POLL_S = 0.2
_GRACE_S = 0.3
"""Whoever only asks who holds the lock has it for a moment."""


@asynccontextmanager
async def held(root: Path, name: str, *, wait_s: float = 0.0) -> AsyncIterator[None]:
    """Hold the workspace's lock while the context lasts; `name` is told to whoever comes meanwhile.

    Raises LockedError `locked` that says who holds it, where it is not free within `wait_s` seconds.
    """
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + max(wait_s, _GRACE_S)
    while (descriptor := _take(path)) is None:
        if time.monotonic() >= until:
            raise LockedError("locked", _told(holder(root)), where=str(path))
        await asyncio.sleep(_POLL_S if wait_s else _GRACE_S / 3)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_myself(name)).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(root: Path) -> dict[str, Any] | None:
    """Who holds the lock: {run, pid, since}; None where nobody does. A holder that says nothing gives {}."""
    path = root / LOCK
    if not path.exists():
        return None
    descriptor = _take(path)
    if descriptor is not None:
        os.close(descriptor)
        return None
    return last(root)


def last(root: Path) -> dict[str, Any]:
    """Who holds the lock or held it last: {run, pid, since}; {} where nobody has said anything."""
    try:
        found = json.loads((root / LOCK).read_bytes())
    except (FileNotFoundError, ValueError):  # it has only just taken it
        return {}
    return found if isinstance(found, dict) else {}


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock, or None. Programs that are started from here do not inherit it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _myself(name: str) -> dict[str, Any]:
    return {"run": name, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="milliseconds")}


def _told(found: dict[str, Any] | None) -> str:
    if not found:
        return "another run is in progress"
    return f"run {found.get('run')} is in progress since {found.get('since')} (process {found.get('pid')})"
