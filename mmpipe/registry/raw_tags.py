"""The tags of a git repository as they lie there: local ones in one call, others fetched from their URL."""

import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from mmpipe import tags, vcs
from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError
from mmpipe.registry.remote import public

_ATOMS = (
    "refname:strip=2",
    "objecttype",
    "*objecttype",
    "*objectname",
    "tag",
    "taggername",
    "taggeremail:trim",
    "taggerdate:raw",
    "contents:subject",
    "contents:body",
)
_FORMAT = "".join(f"%({atom})%00" for atom in _ATOMS)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://.+|[^/\\\s:]+@?[^/\\\s:]*:.+")
"""`https://…`, `ssh://…`, `file://…`, or `user@host:path`."""
_AT_A_TIME = 2_000
NO_PROGRAMS = ("-c", "protocol.ext.allow=never")
"""A URL may not name a program to run."""


@dataclass(frozen=True)
class RawTag:
    """A tag that says something of models. `commit` is empty unless it is an annotated tag of a commit.

    `own_name`: what the tag object itself says it is called.
    """

    tag: str
    meaning: tags.Tag
    commit: str
    own_name: str
    who: str
    email: str
    when: datetime | None
    message: str


def read(source: str) -> list[RawTag]:
    """Every tag of GTO's grammar in a work tree, a bare repository or behind a URL.

    Raises NotFoundError `remote-missing` where there is no repository, TemporaryError `remote-failed` with
    git's own words where the URL gives no answer.
    """
    if not Path(source).exists() and _URL.fullmatch(source):
        return _read_url(source)
    if not Path(source).is_dir():
        raise NotFoundError("remote-missing", "is not there", where=source)
    try:
        vcs.git("rev-parse", "--git-dir", cwd=Path(source))
    except MmpipeError as error:
        if error.code != "command-failed":
            raise
        what = f"is no git repository that can be read: git {error.what}"
        raise NotFoundError("remote-missing", what, where=source) from None
    return _read_folder(Path(source))


def _read_folder(folder: Path) -> list[RawTag]:
    cells = vcs.git("for-each-ref", f"--format={_FORMAT}", "refs/tags", cwd=folder).split("\0")
    width = len(_ATOMS)
    rows = [cells[start : start + width] for start in range(0, len(cells) - 1, width)]
    found = ([row[0].removeprefix("\n"), *row[1:]] for row in rows)
    return [raw for row in found if (raw := _raw_tag(row)) is not None]


def _raw_tag(row: list[str]) -> RawTag | None:
    name, kind, target, commit, own_name, who, email, when, subject, body = row
    meaning = tags.parse_tag(name)
    if meaning is None:
        return None
    whole = kind == "tag" and target == "commit"
    message = f"{subject}\n\n{body}"
    return RawTag(name, meaning, commit if whole else "", own_name, who, email, _time(when), message)


def _time(raw: str) -> datetime | None:
    """Of "1795631454 +0100"; None for a tag without, or with one that no calendar has."""
    found = re.fullmatch(r"(-?[0-9]{1,12}) ([+-])([0-9]{2})([0-9]{2})", raw)
    if found is None:
        return None
    offset = timedelta(hours=int(found[3]), minutes=int(found[4])) * (1 if found[2] == "+" else -1)
    try:
        return datetime.fromtimestamp(int(found[1]), UTC).astimezone(timezone(offset))
    except (ValueError, OverflowError, OSError):
        return None


def _read_url(url: str) -> list[RawTag]:
    """List the tags, then fetch those of models and their commits, without files and without history."""
    try:
        listed = vcs.git(*NO_PROGRAMS, "ls-remote", "--tags", "--refs", "--", url, cwd=Path())
        names = [line.partition("\trefs/tags/")[2] for line in listed.splitlines()]
        wanted = [name for name in names if tags.parse_tag(name)]
        if not wanted:
            return []
        with tempfile.TemporaryDirectory(prefix="mmpipe-tags-") as folder:
            store = Path(folder)
            vcs.git("init", "--quiet", "--bare", cwd=store)
            for start in range(0, len(wanted), _AT_A_TIME):
                refs = [f"refs/tags/{name}:refs/tags/{name}" for name in wanted[start : start + _AT_A_TIME]]
                lean = ("--depth=1", "--filter=tree:0", "--no-tags", "--quiet")
                vcs.git(*NO_PROGRAMS, "fetch", *lean, "--", url, *refs, cwd=store)
            return _read_folder(store)
    except MmpipeError as error:
        if error.code != "command-failed":
            raise
        raise TemporaryError("remote-failed", f"git {public(error.what)}", where=public(url)) from None
