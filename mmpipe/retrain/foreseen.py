"""What a run with some options would be stopped by at its start, as far as that is known beforehand."""

from pathlib import Path

from mmpipe.retrain import overrides, publishing, worktree
from mmpipe.retrain.options import Options


def check(options: Options, root: Path) -> None:
    """Raise it: UsageError or InvalidError `params` for parameters that there are not or with such a value.

    NotFoundError `workspace` for a commit that git does not know, InvalidError `branch-moved` for a branch
    that a run cannot commit to.
    """
    overrides.check(root, options.overrides())
    worktree.pin(root, options.start)
    if options.branch is not None:
        publishing.check(root, options.branch)
