"""Files of another repository at a commit, through DVC: from git, its DVC remote, or its own cache."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpipe import vcs
from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError, VerificationError

Fs = Any
"""DVC's own `DVCFileSystem`, which has no types."""


def public(source: str) -> str:
    """A repository's path or URL without user name and password."""
    return re.sub(r"://[^/\s]*@", "://", source)


def whole(source: str) -> str:
    """The top of the work tree that a folder lies in, from which git's paths count; else `source` itself."""
    top = vcs.git_root(Path(source)) if Path(source).is_dir() else None
    return source if top is None else str(top)


@contextmanager
def opened(source: str, commit: str, name: str = "") -> Iterator[Fs]:
    """DVC's file system of the repository at `commit`.

    Paths count from the workspace that the model `name` is of (`vision:fusion`: folder vision), without one
    from the top of the repository.

    Raises NotFoundError `remote-missing` where the repository cannot be had, and inside the block
    NotFoundError `object-missing` or TemporaryError `remote-failed` as DVC and its remotes fail.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from fsspec.implementations.dirfs import DirFileSystem

    folder = "/".join(name.split(":")[:-1])
    with tempfile.TemporaryDirectory() as scratch:
        # DVC remembers lists of files from one run to the next, damaged ones too: here it starts with none.
        config = {"core": {"site_cache_dir": scratch}}
        try:
            fs = DVCFileSystem(whole(source), rev=commit, config=config, subrepos=True)
        except (DvcException, OSError) as error:
            raise NotFoundError("remote-missing", _words(error), where=public(source)) from error
        with in_our_words(fs, source):
            yield DirFileSystem(folder, fs) if folder else fs


@contextmanager
def in_our_words(fs: Fs, source: str) -> Iterator[None]:
    """The errors of DVC and of its remotes as ours: those that `opened` tells of."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        yield
    except MmpipeError:
        raise
    except DataIndexDirError as error:
        raise _of_folder(error, fs, source) from error
    except FileNotFoundError as error:
        raise _missing(error, fs, source) from error
    except (DvcException, OSError, *network_errors()) as error:
        raise failed(error, source) from error


def failed(error: Exception, source: str, *, done: str = "stopped") -> TemporaryError:
    """An error of DVC or of a remote, in its own last words."""
    return TemporaryError("remote-failed", _words(error), where=public(source), done=done)


def network_errors() -> tuple[type[Exception], ...]:
    """What S3 and HTTP remotes raise of their own, where they are installed."""
    found: list[type[Exception]] = []
    try:
        from botocore.exceptions import BotoCoreError, ClientError

        found += [BotoCoreError, ClientError]
    except ImportError:
        pass
    try:
        from aiohttp import ClientError as HttpError

        found.append(HttpError)
    except ImportError:
        pass
    return tuple(found)


def storage(fs: Fs) -> str:
    """Where the repository says its data lie: the URL of its default DVC remote, or nowhere."""
    config = (fs.repo if hasattr(fs, "repo") else fs.fs.repo).config
    name = config["core"].get("remote")
    return public(str(config["remote"][name]["url"])) if name else ""


def _of_folder(error: Exception, fs: Fs, source: str) -> MmpipeError:
    """DVC cannot read the list of a folder's files: it is not there, not to be had, or damaged."""
    cause = error.__cause__
    if cause is None or isinstance(cause, FileNotFoundError):
        return _missing(error, fs, source)
    if isinstance(cause, (OSError, *network_errors())):
        return failed(error, source)
    what = f"its DVC remote {storage(fs)} holds a damaged list of files ({_words(error)})"
    return VerificationError("object-damaged", what, where=public(source))


def _missing(error: Exception, fs: Fs, source: str) -> NotFoundError:
    place = storage(fs)
    if place:
        what = f"its DVC remote {place} does not hold it ({_words(error)})"
        return NotFoundError("object-missing", what, where=public(source))
    what = f"it has no DVC remote, and is no folder with its own cache ({_words(error)})"
    return NotFoundError("remote-missing", what, where=public(source))


def _words(error: BaseException) -> str:
    """The last cause's own words, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return public(" ".join(str(error).split())[:500]) or type(error).__name__
