"""Writing GTO's tags through GTO's own Python interface; its refusals in our words."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from mmpipe import vcs
from mmpipe.errors import InvalidError, MmpipeError

_PATIENCE_S = 2.0


def register(top: Path, name: str, version: str, *, commit: str, message: str) -> str:
    """Make the annotated tag of a version and return its name. `top`: of the git work tree.

    Raises InvalidError `tag-exists` where the version or one of this commit is there, `git-state` where git
    does not know who is at work.
    """
    from gto import api

    who, email = _identity(top)
    with _in_our_words():
        made = api.register(
            str(top),
            name,
            commit,
            version=version,
            message=message,
            simple=True,
            author=who,
            author_email=email,
        )
    return str(made.tag)


def assign(top: Path, name: str, version: str, *, stage: str, message: str) -> str:
    """Make the next annotated tag `name#stage#n` at a version's commit and return its name."""
    from gto import api

    who, email = _identity(top)
    with _in_our_words():
        made = api.assign(
            str(top),
            name,
            stage,
            version=version,
            message=message,
            simple=False,
            force=True,  # GTO calls it forced when a version comes back to a stage; no tag is ever replaced
            author=who,
            author_email=email,
        )
    return str(made.tag)


def wait_past(newest: datetime | None) -> bool:
    """Wait until the next tag will be younger than `newest`: GTO and DVC order stages by whole seconds.

    False where the clock is so far behind that waiting is no help.
    """
    if newest is None:
        return True
    if newest.timestamp() - time.time() > _PATIENCE_S:
        return False
    while int(time.time()) <= newest.timestamp():
        time.sleep(0.02)
    return True


def _identity(top: Path) -> tuple[str, str]:
    """Who git says is at work, as for a commit."""
    words = vcs.ask_git("var", "GIT_COMMITTER_IDENT", cwd=top)
    found = re.match(r"(.*?) ?<(.*)> [0-9]", words or "")
    if found is None:
        fix = "git config user.name 'Your Name' and git config user.email you@example.com"
        raise InvalidError("git-state", "git does not know who you are", where=str(top), fix=fix)
    return found[1], found[2]


@contextmanager
def _in_our_words() -> Iterator[None]:
    from gto import exceptions
    from scmrepo.exceptions import SCMError

    taken = (exceptions.TagExists, exceptions.VersionAlreadyRegistered, exceptions.VersionExistsForCommit)
    try:
        yield
    except taken as error:
        raise InvalidError("tag-exists", str(error), done="nothing was tagged") from None
    except (exceptions.GTOException, SCMError) as error:
        raise MmpipeError("command-failed", f"GTO says: {error}", done="nothing was tagged") from None
