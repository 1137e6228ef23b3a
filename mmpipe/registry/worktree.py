"""Whether a git work tree is in a state that can be published: one commit, with everything in it."""

from dataclasses import dataclass
from pathlib import Path

from mmpipe import vcs
from mmpipe.errors import InvalidError

_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """`top` of the work tree, `folder` of the workspace below it ("" for the top), what is checked out.

    Of a bare repository, `top` is the repository itself.
    """

    top: Path
    folder: str
    commit: str
    branch: str | None
    bare: bool = False


def locate(root: Path) -> Place:
    """Where a workspace or a bare repository lies. Raises InvalidError `git-state` without git or commit."""
    top = vcs.git_root(root)
    bare = top is None and vcs.ask_git("rev-parse", "--is-bare-repository", cwd=root) == "true"
    if bare:
        top = Path(vcs.git("rev-parse", "--absolute-git-dir", cwd=root).removesuffix("\n"))
    if top is None:
        fix = "git init && git add -A && git commit"
        raise InvalidError("git-state", "is in no git repository", where=str(root.resolve()), fix=fix)
    commit = vcs.ask_git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=root)
    if commit is None:
        raise InvalidError("git-state", "has no commit yet", where=str(top), fix="git add -A && git commit")
    folder = vcs.git("rev-parse", "--show-prefix", cwd=root).removesuffix("\n").strip("/")
    branch = vcs.ask_git("symbolic-ref", "--quiet", "--short", "HEAD", cwd=root)
    return Place(top, folder, commit, branch, bare)


def check(place: Place, *, detached: bool = False) -> None:
    """Raise InvalidError `git-state`, or `tree-dirty` naming the files. `detached`: no branch is needed."""
    if place.bare:
        raise InvalidError("git-state", "is a bare repository: nothing is made there", where=str(place.top))
    if vcs.git("rev-parse", "--is-shallow-repository", cwd=place.top).strip() == "true":
        what = "is a shallow clone: the history of its versions is not here"
        raise InvalidError("git-state", what, where=str(place.top), fix="git fetch --unshallow --tags")
    if place.branch is None and not detached:
        what = f"is on no branch (detached at {place.commit[:12]})"
        fix = "check out a branch, or publish with --detached"
        raise InvalidError("git-state", what, where=str(place.top), fix=fix)
    words = vcs.git("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", cwd=place.top)
    if changed := [entry[3:] for entry in words.split("\0") if entry]:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        count = "1 file is" if len(changed) == 1 else f"{len(changed)} files are"
        what = f"{count} not in the commit: {', '.join(changed[:_SHOWN])}{more}"
        raise InvalidError("tree-dirty", what, where=str(place.top), done="nothing was tagged")
