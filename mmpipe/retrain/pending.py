"""Whether what a run published may not be at the git remote yet: a mark that outlives the run."""

from mmpipe.files import write_bytes
from mmpipe.retrain.worktree import RUNS, Worktree

_NAME = "unpushed"


def mark(tree: Worktree) -> None:
    """Before a tag is made."""
    write_bytes(tree.workspace / RUNS / _NAME, f"{tree.name}\n".encode())


def clear(tree: Worktree) -> None:
    """When all is there."""
    (tree.workspace / RUNS / _NAME).unlink(missing_ok=True)


def marked(tree: Worktree) -> bool:
    """Whether a run was cut off between a tag and its push."""
    return (tree.workspace / RUNS / _NAME).exists()
