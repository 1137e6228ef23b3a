"""The git remote that tags come from and go to; nothing there is ever replaced."""

import shlex
from pathlib import Path

from mmpipe import vcs
from mmpipe.errors import InvalidError, MmpipeError, TemporaryError, VerificationError

_DONE = "nothing was tagged"


def remote(top: Path) -> str | None:
    """The remote of the branch that is checked out, else `origin`, else the only one; None without any."""
    names = vcs.git("remote", cwd=top).split()
    branch = vcs.ask_git("symbolic-ref", "--quiet", "--short", "HEAD", cwd=top)
    own = vcs.ask_git("config", f"branch.{branch}.remote", cwd=top) if branch else None
    if own in names:
        return own
    return "origin" if "origin" in names else (names[0] if len(names) == 1 else None)


def fetch_tags(top: Path, remote: str, name: str) -> None:
    """Bring a model's tags here, so that the next number is the next one for everybody.

    Raises VerificationError `tag-moved` where a tag here and there are not the same.
    """
    specs = [f"{pattern}:{pattern}" for pattern in _patterns(name)]
    try:
        vcs.git("fetch", "--no-tags", remote, *specs, cwd=top)
    except MmpipeError as error:
        if "clobber" not in error.what:
            raise _failed(error, f"git fetch {remote}", _DONE) from None
        tag = next((word for word in error.what.split() if word.startswith(name)), name)
        raise _moved(tag, remote) from None


def unseen_tags(top: Path, remote: str, name: str) -> list[str]:
    """A model's tags at the remote that are not here, by one question; nothing is fetched.

    Raises VerificationError `tag-moved` where a tag here and there are not the same, MmpipeError
    `remote-failed`.
    """
    try:
        told = vcs.git("ls-remote", "--tags", "--refs", remote, *_patterns(name), cwd=top)
    except MmpipeError as error:
        raise _failed(error, f"git ls-remote {remote}", _DONE) from None
    listed = vcs.git("for-each-ref", "--format=%(objectname)%09%(refname)", *_patterns(name), cwd=top)
    there, here = ({ref: oid for oid, ref in map(_pair, text.splitlines())} for text in (told, listed))
    if moved := [ref for ref in sorted(here.keys() & there.keys()) if here[ref] != there[ref]]:
        raise _moved(moved[0].removeprefix("refs/tags/"), remote)
    return [ref.removeprefix("refs/tags/") for ref in sorted(there.keys() - here.keys())]


def check_branch(top: Path, remote: str, branch: str) -> None:
    """Raise InvalidError `git-state` where the remote would not take this branch as it is."""
    try:
        vcs.git("push", "--dry-run", "--no-verify", remote, _target(top, branch), cwd=top)
    except MmpipeError as error:
        if "rejected" not in error.what:
            raise _failed(error, f"git push {remote} {branch}", _DONE) from None
        what = f"has commits at {remote} that are not here"
        fix = "git pull, run `dvc repro`, commit, then publish"
        raise InvalidError("git-state", what, where=branch, done=_DONE, fix=fix) from None


def has(top: Path, remote: str, tag: str) -> bool:
    """Whether the remote has this tag. Raises MmpipeError `remote-failed`."""
    try:
        return bool(vcs.git("ls-remote", "--tags", "--refs", remote, f"refs/tags/{tag}", cwd=top).strip())
    except MmpipeError as error:
        raise _failed(error, f"git ls-remote {remote}", _DONE) from None


def tags(top: Path, remote: str) -> set[str]:
    """All tags of the remote. Raises MmpipeError `remote-failed`."""
    try:
        lines = vcs.git("ls-remote", "--tags", "--refs", remote, cwd=top).splitlines()
    except MmpipeError as error:
        raise _failed(error, f"git ls-remote {remote}", "nothing was pushed") from None
    return {line.partition("\trefs/tags/")[2] for line in lines}


def push(top: Path, remote: str, *, tag: str, branch: str | None = None) -> None:
    """Push a tag, and with `branch` that too: both or neither. What is there already is left alone.

    Raises MmpipeError `remote-failed`: the tag stays here, and the fix is the command to repeat.
    """
    targets = [f"refs/tags/{tag}", *([_target(top, branch)] if branch else [])]
    words = ("push", *(("--atomic",) if branch else ()), remote, *targets)
    try:
        vcs.git(*words, cwd=top)
    except MmpipeError as error:
        raise _failed(error, shlex.join(["git", *words]), f"{tag} is here, not at {remote}") from None


def push_notes(top: Path, remote: str, ref: str) -> None:
    """Push a ref of notes. Raises MmpipeError `remote-failed`; its fix also merges those of others."""
    push = f"git push {remote} {ref}"
    try:
        vcs.git("push", "--quiet", remote, ref, cwd=top)
    except MmpipeError as error:
        short = ref.removeprefix("refs/notes/")
        merge = f"git fetch {remote} {ref} && git notes --ref={short} merge FETCH_HEAD && {push}"
        fix = merge if "rejected" in error.what else push
        raise _failed(error, fix, f"the note is here, not at {remote}") from None


def _patterns(name: str) -> list[str]:
    """Of the refs of all tags of a model."""
    return [f"refs/tags/{name.replace(':', '=')}{sign}*" for sign in "@#"]


def _pair(line: str) -> tuple[str, str]:
    oid, _, ref = line.partition("\t")
    return oid, ref


def _moved(tag: str, remote: str) -> VerificationError:
    what = f"is another tag at {remote} than here"
    return VerificationError("tag-moved", what, where=tag, done=_DONE)


def _target(top: Path, branch: str) -> str:
    """The branch here and its name at the remote."""
    merge = vcs.ask_git("config", f"branch.{branch}.merge", cwd=top)
    return f"refs/heads/{branch}:{merge or f'refs/heads/{branch}'}"


def _failed(error: MmpipeError, command: str, done: str) -> MmpipeError:
    """In our words; unless the remote refused, the same may work later."""
    if error.code != "command-failed":
        return error
    kind = MmpipeError if "rejected" in error.what else TemporaryError
    return kind("remote-failed", f"git {error.what}", done=done, fix=command)
