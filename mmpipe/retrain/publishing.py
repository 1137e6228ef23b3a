"""The run's one commit, by a bot, on a branch of its own or a chosen one; nothing is ever forced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpipe import vcs
from mmpipe.errors import InvalidError, MmpipeError
from mmpipe.retrain.registering import BOT
from mmpipe.retrain.worktree import BRANCHES, RUNS, Worktree

_GIT = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
"""No hook of the person's runs for a bot, and nobody is there to type a passphrase."""
_DIGEST, _GATE, _CHAMPION = "Bundle-SHA256", "Gate", "Champion"
_DONE = "nothing was committed"
_OTHER = "name a branch that is checked out nowhere"


def commit(tree: Worktree, message: str, *, branch: str | None = None) -> tuple[str, str]:
    """Commit all that changed in the workspace; (branch, full name of the commit).

    Raises InvalidError `branch-moved` where the chosen branch moved meanwhile or is checked out elsewhere.
    """
    name = branch or tree.name
    _switch(tree, name)
    return name, commit_nowhere(tree, message)


def commit_nowhere(tree: Worktree, message: str) -> str:
    """Commit all that changed to what is checked out: without `_switch`, on no branch, and git forgets it."""
    vcs.git(*_GIT, "add", "--all", ".", cwd=tree.root)
    words = ("commit", "--quiet", "--allow-empty", "--no-verify", "--cleanup=verbatim", "--message", message)
    vcs.run("git", *_GIT, *words, cwd=tree.root, environment=BOT)
    return vcs.git("rev-parse", "HEAD", cwd=tree.root).strip()


def message(tree: Worktree, digest: str, verdict: Mapping[str, Any], sentence: str) -> str:
    """A sentence, the verdict, and what tells a later run that this very bundle was judged, and over whom."""
    said = [f"- {reason}" for reason in verdict.get("reasons", [])]
    trailers = {
        _DIGEST: digest,
        _GATE: verdict.get("verdict", "none"),
        _CHAMPION: verdict.get("champion") or "none",
        "Run": tree.name,
    }
    return "\n".join([sentence, "", *said, "", *(f"{key}: {value}" for key, value in trailers.items()), ""])


def refused(tree: Worktree, digest: str, champion: str | None) -> str | None:
    """The branch of an earlier run whose gate refused this very bundle, for the same champion."""
    wanted = {f"{_DIGEST}: {digest}", f"{_GATE}: refuse", f"{_CHAMPION}: {champion or 'none'}"}
    form = "--format=%(refname:short)%0a%(contents:trailers)%01"
    blocks = vcs.git("for-each-ref", form, f"refs/heads/{BRANCHES}/", cwd=tree.root).split("\x01")
    found = [lines[0] for block in blocks if wanted <= set(lines := block.strip().splitlines())]
    return found[-1] if found else None


def tip(root: Path, branch: str) -> str:
    """The commit of a branch; "" where there is none."""
    return vcs.ask_git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}", cwd=root) or ""


def check(root: Path, branch: str) -> None:
    """Raise InvalidError `branch-moved` for a branch that a run could not commit to.

    Git does not allow the name, or it is checked out, and not by a run, which may be dead.
    """
    done = "nothing was started"
    if vcs.ask_git("check-ref-format", f"refs/heads/{branch}", cwd=root) is None:
        raise InvalidError("branch-moved", "git allows no such name", where=branch, done=done, fix=_OTHER)
    for block in vcs.git("worktree", "list", "--porcelain", "-z", cwd=root).split("\0\0"):
        place, *rest = block.removeprefix("\0").split("\0")
        folder = Path(place.removeprefix("worktree "))
        if f"branch refs/heads/{branch}" in rest and not folder.is_relative_to(root.resolve() / RUNS):
            what = f"is checked out in {folder}"
            raise InvalidError("branch-moved", what, where=branch, done=done, fix=_OTHER)


def changed(root: Path) -> list[str]:
    """The files that a commit of this moment would have anew, as git names them."""
    words = vcs.git("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", cwd=root)
    return sorted(entry[3:] for entry in words.split("\0") if entry)


def _switch(tree: Worktree, name: str) -> None:
    """Be on the branch, at the commit that the run started from."""
    at = tip(tree.root, name)
    words = ["checkout", "--quiet", *(["--no-track", "-b"] if not at else []), name]
    if at and at != tree.commit:
        what = f"moved to {at[:12]} while the run, which started at {tree.commit[:12]}, was in progress"
        raise InvalidError("branch-moved", what, where=name, done=_DONE, fix="run again")
    try:
        vcs.git(*_GIT, *words, cwd=tree.root)
    except MmpipeError as error:
        raise InvalidError("branch-moved", error.what, where=name, done=_DONE, fix=_OTHER) from None
