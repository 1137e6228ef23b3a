"""The state of every file below some folders, to tell whether any changed while they were read."""

import os
from collections.abc import Iterable
from pathlib import Path

from mmpipe.errors import TemporaryError

Snapshot = dict[str, tuple[int, int, int]]
"""Path → size in bytes, time of the last change in ns, inode."""
_SHOWN = 3


def take(folders: Iterable[Path]) -> Snapshot:
    """All files below the folders; of a link, what it leads to. A folder that is not there has none."""
    found: Snapshot = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                try:
                    status = path.stat()
                except OSError:  # a dead link, or gone since it was listed
                    continue
                found[path.as_posix()] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def check(before: Snapshot, after: Snapshot) -> None:
    """Raise TemporaryError `file-changed` where a file was changed, added or removed.

    DVC hashes what a stage reads after the stage: it would record the new files with results of the old.
    """
    changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        what = f"{len(changed)} files changed while they were read: {', '.join(changed[:_SHOWN])}{more}"
        raise TemporaryError("file-changed", what, done="nothing was written")
