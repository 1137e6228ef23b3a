"""The state of a file, or of every file below some folders, to tell whether any changed while it was read."""

import os
from collections.abc import Iterable
from pathlib import Path

from mmpipe.errors import TemporaryError

State = tuple[int, int, int]
"""Of a file: size in bytes, time of the last change in ns, inode."""
Snapshot = dict[str, State]
"""By path."""
_SHOWN = 3


def take(folders: Iterable[Path]) -> Snapshot:
    """All files below the folders; of a link, what it leads to. A folder that is not there has none."""
    found: Snapshot = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                if (of_file := state(path)) is not None:
                    found[path.as_posix()] = of_file
    return found


def state(path: Path) -> State | None:
    """That of one file; None of a dead link, or of a file that is gone since it was listed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def check(before: Snapshot, after: Snapshot) -> None:
    """Raise TemporaryError `file-changed` where a file was changed, added or removed.

    DVC hashes what a stage reads after the stage: it would record the new files with results of the old.
    """
    changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        what = f"{len(changed)} files changed while they were read: {', '.join(changed[:_SHOWN])}{more}"
        raise TemporaryError("file-changed", what, done="nothing was written")
