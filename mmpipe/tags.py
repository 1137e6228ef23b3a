"""The names of models, versions and stages: GTO's grammar, read, ordered and counted up."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mmpipe.errors import UsageError

NAME = "fusion"
STAGE = "prod"
LATEST = "latest"
Part = Literal["major", "minor", "patch"]
Order = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...], str]

_WORD = r"(?!\S*//)[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_FOLDER = r"[a-zA-Z0-9-_./]+"
_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_LABEL = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = (
    rf"v(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>{_LABEL}(?:\.{_LABEL})*))?(?:\+(?P<build>[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
_COUNT = "(?:#(?P<n>[0-9]{1,9}))?"
_TAG = re.compile(
    rf"(?P<name>(?:{_FOLDER}=)?{_WORD})(?:@(?P<version>{_VERSION})|#(?P<stage>{_WORD}))(?P<cancels>!?){_COUNT}"
)
_SPEC = re.compile(
    rf"(?P<name>(?:{_FOLDER}:)?{_WORD})(?:@(?:{LATEST}|(?P<version>{_VERSION}))|#(?P<stage>{_WORD}){_COUNT})"
)
_LIKE_A_VERSION = re.compile(
    rf"(?:(?P<name>{_WORD}?)[@#:=_ /-]+)?[vV]?(?P<numbers>[0-9]{{1,9}}(?:\.[0-9]{{1,9}}){{0,2}})"
)
_LIKE_A_STAGE = re.compile(rf"(?P<name>{_WORD})[@:= ]+(?P<stage>{_WORD})")


@dataclass(frozen=True)
class Spec:
    """Which version is meant: a numbered one, the one that holds a stage, else the latest.

    `n` picks one assignment of the stage, the newest if None. `name` may have a folder: "vision:fusion".
    """

    name: str
    version: str | None = None
    stage: str | None = None
    n: int | None = None

    def __str__(self) -> str:
        if self.stage is None:
            return f"{self.name}@{self.version or LATEST}"
        return f"{self.name}#{self.stage}" + ("" if self.n is None else f"#{self.n}")


@dataclass(frozen=True)
class Tag:
    """What a tag's name says. Either `version` or `stage` is set; `n` is 0 where there is no counter.

    `cancels`: the version was withdrawn, or taken out of the stage (GTO's `!`).
    """

    name: str
    version: str | None
    stage: str | None
    n: int
    cancels: bool


def parse_spec(text: str) -> Spec:
    """`fusion@v1.2.0`, `fusion@latest`, `fusion#prod` or `fusion#prod#3`. Raises UsageError `tag-name`."""
    found = _SPEC.fullmatch(text)
    if found is None:
        guess = _guess(text.strip())
        raise UsageError("tag-name", f"{text!r} names no model", fix=f"write {guess}" if guess else None)
    n = None if found["n"] is None else int(found["n"])
    return Spec(found["name"], found["version"], found["stage"], n)


def parse_tag(text: str) -> Tag | None:
    """What a git tag says of versions and stages; None for any other tag."""
    found = _TAG.fullmatch(text)
    if found is None:
        return None
    name = found["name"].replace("=", ":")
    return Tag(name, found["version"], found["stage"], int(found["n"] or 0), bool(found["cancels"]))


def version_tag(name: str, version: str) -> str:
    """The tag of a version: `fusion@v1.2.0`; of a model in a folder `vision=fusion@v1.2.0`."""
    return f"{name.replace(':', '=')}@{version}"


def full_name(folder: str, name: str = NAME) -> str:
    """A model's name in its git repository: that of a workspace in a subfolder has the folder before it.

    Raises UsageError `tag-name` for a folder that GTO's grammar has no name for.
    """
    full = f"{folder}:{name}" if folder else name
    if re.fullmatch(rf"(?:{_FOLDER}:)?{_WORD}", full) is None:
        fix = "use letters, digits and . _ - / in the name of the workspace's folder"
        raise UsageError("tag-name", f"{full!r} cannot be a model's name", fix=fix)
    return full


def check_version(text: str) -> str:
    """`v1.2.0`, as it is. Raises UsageError `tag-name`."""
    if re.fullmatch(_VERSION, text) is None:
        found = _LIKE_A_VERSION.fullmatch(text.strip())
        fix = f"write {_completed(found['numbers'])}" if found else "write it as in v1.2.0"
        raise UsageError("tag-name", f"{text!r} is no version", fix=fix)
    return text


def check_stage(text: str) -> str:
    """The name of a stage, as it is. Raises UsageError `tag-name`."""
    if re.fullmatch(_WORD, text) is None:
        fix = "use letters, digits, - and _, as in prod"
        raise UsageError("tag-name", f"{text!r} cannot be a stage", fix=fix)
    return text


def order(version: str) -> Order:
    """A key that sorts versions as Semantic Versioning 2.0 does (11), build metadata last by its letters."""
    found = re.fullmatch(_VERSION, version)
    assert found is not None, version
    labels = found["pre"].split(".") if found["pre"] else []
    pre = tuple((not label.isdigit(), int(label) if label.isdigit() else 0, label) for label in labels)
    numbers = (int(found["major"]), int(found["minor"]), int(found["patch"]))
    return (*numbers, not labels, pre, found["build"] or "")


def bump(version: str | None, part: Part) -> str:
    """The next version; the first is v1.0.0."""
    if version is None:
        return "v1.0.0"
    major, minor, patch = order(version)[:3]
    if part == "major":
        return f"v{major + 1}.0.0"
    return f"v{major}.{minor + 1}.0" if part == "minor" else f"v{major}.{minor}.{patch + 1}"


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`; None where there are none."""
    found = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.0)
    return found[0] if found else None


def _guess(text: str) -> str | None:
    """What was probably meant: a version without its v or name, `:` for `@`, `@` for `#`."""
    if found := _LIKE_A_VERSION.fullmatch(text):
        return f"{found['name'] or NAME}@{_completed(found['numbers'])}"
    if found := _LIKE_A_STAGE.fullmatch(text):
        return f"{found['name']}{'@' if found['stage'] == LATEST else '#'}{found['stage']}"
    return f"{text}@{LATEST}" if re.fullmatch(_WORD, text) else None


def _completed(numbers: str) -> str:
    parts = [str(int(part)) for part in numbers.split(".")]
    return "v" + ".".join([*parts, "0", "0"][:3])
