"""A git note on a commit: written here, pushed, and read from a repository here or behind a URL."""

import tempfile
from pathlib import Path

from mmpipe import vcs
from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError, VerificationError
from mmpipe.registry import origin
from mmpipe.registry.raw_tags import NO_PROGRAMS
from mmpipe.registry.remote import public

MAX_BYTES = 20_000_000


def write(path: Path, commit: str, repository: Path, *, ref: str) -> None:
    """Note the text in the file `path` on a commit; one noted there before stays in the history of `ref`."""
    words = ("notes", f"--ref={ref}", "add", "--force", "--file", str(path.absolute()), commit)
    vcs.git(*words, cwd=repository)


def push(repository: Path, *, ref: str) -> str:
    """Push the notes to the remote that tags go to; its name.

    Raises NotFoundError `remote-missing` where that is not clear, MmpipeError `remote-failed`.
    """
    name = origin.remote(repository)
    if name is None:
        count = len(vcs.git("remote", cwd=repository).split())
        what = f"has {count} git remotes, none called origin"
        raise NotFoundError("remote-missing", what, where=str(repository), fix=f"git push REMOTE {ref}")
    origin.push_notes(repository, name, ref)
    return name


def read(source: str, commit: str, *, ref: str) -> bytes | None:
    """The note on a commit in a folder's repository or behind a URL; None where there is none.

    Raises TemporaryError `remote-failed`, VerificationError `record-damaged` for one too large to be ours.
    """
    if Path(source).is_dir():
        return _read(Path(source), commit, ref)
    try:
        if not vcs.git(*NO_PROGRAMS, "ls-remote", "--refs", "--", source, ref, cwd=Path()).strip():
            return None
        with tempfile.TemporaryDirectory(prefix="mmpipe-notes-") as folder:
            vcs.git("init", "--quiet", "--bare", cwd=Path(folder))
            lean = ("--depth=1", "--no-tags", "--quiet")
            vcs.git(*NO_PROGRAMS, "fetch", *lean, "--", source, f"{ref}:{ref}", cwd=Path(folder))
            return _read(Path(folder), commit, ref)
    except MmpipeError as error:
        if error.code != "command-failed":
            raise
        raise TemporaryError("remote-failed", f"git {public(error.what)}", where=public(source)) from None


def _read(repository: Path, commit: str, ref: str) -> bytes | None:
    blob = vcs.ask_git("notes", f"--ref={ref}", "list", commit, cwd=repository)
    if not blob:
        return None
    if int(vcs.git("cat-file", "-s", blob, cwd=repository)) > MAX_BYTES:
        raise VerificationError("record-damaged", f"is larger than {MAX_BYTES:,} bytes", where=ref)
    return vcs.git("cat-file", "blob", blob, cwd=repository).encode()
