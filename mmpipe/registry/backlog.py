"""Tags that are here and not at the git remote, because a push failed: pushed, versions before stages."""

from collections.abc import Iterator
from pathlib import Path

from mmpipe import vcs
from mmpipe.registry import origin, tagged, worktree


def push(root: Path, *, who: str) -> list[str]:
    """Push what this tagger made and the remote lacks, each version with the branch that ends at its commit.

    → the tags. Raises MmpipeError `remote-failed`.
    """
    place = worktree.locate(root)
    remote = origin.remote(place.top)
    if remote is None:
        return []
    there = origin.tags(place.top, remote)
    missing = [(tag, commit) for tag, commit in _made(root, who) if tag not in there]
    for tag, commit in missing:
        origin.push(place.top, remote, tag=tag, branch=_branch(place.top, commit))
    return [tag for tag, _ in missing]


def _made(root: Path, who: str) -> Iterator[tuple[str, str | None]]:
    """(tag, commit) of each version, then (tag, None) of each stage."""
    registry = tagged.read(root)
    for version in registry.versions:
        if version.who == who:
            yield version.tag, version.commit
    for assignment in registry.assignments:
        if assignment.who == who:
            yield assignment.tag, None


def _branch(top: Path, commit: str | None) -> str | None:
    if commit is None:
        return None
    words = ("for-each-ref", "--format=%(refname:short)", f"--points-at={commit}", "refs/heads/")
    return next(iter(vcs.git(*words, cwd=top).split()), None)
