"""What a dead run leaves behind, taken away: its processes, its worktree, git's notes of it."""

import os
import shutil
import time
from pathlib import Path

from mmpipe.retrain.apart import MARK
from mmpipe.retrain.children import kill, marked

PATIENCE_S = 3.0
"""A training whose run was killed has had its SIGTERM and saves its state."""


def remove(folder: Path, metadata: Path) -> list[str]:
    """Remove a run's worktree; `metadata`: of git's worktrees. Says what else was there."""
    said = end(folder)
    for notes in metadata.glob("*") if metadata.is_dir() else ():
        if _leads_to(notes) == folder:
            shutil.rmtree(notes, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        said.append(f"removed {folder}")
    return said


def end(folder: Path) -> list[str]:
    """Wait for the processes of a dead run's folder, then kill those that are left; say how many."""
    until = time.monotonic() + PATIENCE_S
    found = marked(MARK, str(folder))
    while marked(MARK, str(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    left = marked(MARK, str(folder))
    kill(left)
    return [f"waited for {len(found)} processes of {folder.name}, killed {len(left)}"] if found else []


def _leads_to(notes: Path) -> Path | None:
    """The worktree that one of git's notes is about."""
    try:
        return Path(os.path.normpath(notes / (notes / "gitdir").read_text().strip())).parent
    except OSError:
        return None
