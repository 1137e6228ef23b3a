"""Published versions and the stages given to them, each as its tag says, and whether the tags agree."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmpipe import tags
from mmpipe.registry import messages
from mmpipe.registry.raw_tags import RawTag

Key = tuple[str, str]
"""Name and version."""


@dataclass(frozen=True)
class Version:
    """A published version. What its message does not say (GTO's own does not) is "", {} or None.

    `gate`: {verdict: promote, refuse or none; reasons: texts; champion: a version's tag or None}.
    `signature`: of the bundle, as `publish` was given it.
    """

    name: str
    version: str
    tag: str
    commit: str
    sentence: str
    bundle_sha256: str
    data_sha256: str
    metrics: dict[str, float]
    gate: dict[str, Any] | None
    who: str
    email: str
    when: datetime | None
    withdrawn: bool = False
    signature: str = ""


@dataclass(frozen=True)
class Assignment:
    """A version put into a stage, or taken out: `action` is promote, rollback, assign (by GTO) or unassign.

    `n`: GTO's counter, which orders all assignments of a model. `version` is "" where the tag names none.
    """

    name: str
    stage: str
    n: int
    version: str
    tag: str
    commit: str
    action: str
    why: str
    bundle_sha256: str
    gate: dict[str, Any] | None
    who: str
    email: str
    when: datetime | None


def sound(found: Iterable[RawTag], problems: dict[str, str]) -> Iterator[RawTag]:
    """The annotated tags of a commit under their own name; of the others, {tag: what is wrong}."""
    for raw in found:
        if not raw.commit:
            problems[raw.tag] = "is no annotated tag of a commit: it says neither who made it nor of what"
        elif raw.own_name != raw.tag:
            problems[raw.tag] = f"was moved: it is the tag {raw.own_name} under another name"
        else:
            yield raw


def versions(found: Iterable[RawTag]) -> list[Version]:
    """By name and Semantic Versioning. One that was withdrawn and came back counts by its highest counter."""
    last: dict[Key, RawTag] = {}
    made: dict[Key, RawTag] = {}
    for raw in sorted(found, key=lambda raw: (raw.meaning.n, raw.meaning.cancels)):
        key = (raw.meaning.name, raw.meaning.version or "")
        last[key] = raw
        if not raw.meaning.cancels:
            made[key] = raw
    listed = [_version(raw, withdrawn=last[key].meaning.cancels) for key, raw in made.items()]
    return sorted(listed, key=lambda v: (v.name, tags.order(v.version)))


def assignments(
    found: Iterable[RawTag], known: Iterable[Version], problems: dict[str, str]
) -> list[Assignment]:
    """By name and counter. Where a tag and its version's tag do not agree, both are named in `problems`."""
    by_key: dict[Key, Version] = {}
    by_commit: dict[Key, Version] = {}
    for version in known:
        by_key[version.name, version.version] = version
        by_commit[version.name, version.commit] = version
    listed = []
    for raw in sorted(found, key=lambda raw: (raw.meaning.name, raw.meaning.n)):
        assignment = _assignment(raw, by_commit)
        problems.update(_compare(assignment, by_key.get((assignment.name, assignment.version))))
        listed.append(assignment)
    return listed


def _version(raw: RawTag, *, withdrawn: bool) -> Version:
    sentence, fields = messages.read(raw.message)
    return Version(
        raw.meaning.name,
        raw.meaning.version or "",
        raw.tag,
        raw.commit,
        sentence,
        fields.get("Bundle-SHA256", ""),
        fields.get("Data-SHA256", ""),
        fields.get("Metrics", {}),
        fields.get("Gate"),
        raw.who,
        raw.email,
        raw.when,
        withdrawn,
        fields.get("Signature", ""),
    )


def _assignment(raw: RawTag, by_commit: Mapping[Key, Version]) -> Assignment:
    """A tag of GTO's own says no version: it is then the one of its commit, as GTO has it."""
    _, fields = messages.read(raw.message)
    of_commit = by_commit.get((raw.meaning.name, raw.commit))
    action = fields.get("Action", "")
    if raw.meaning.cancels or action not in ("promote", "rollback"):
        action = "unassign" if raw.meaning.cancels else "assign"
    return Assignment(
        raw.meaning.name,
        raw.meaning.stage or "",
        raw.meaning.n,
        fields.get("Version") or (of_commit.version if of_commit else ""),
        raw.tag,
        raw.commit,
        action,
        fields.get("Why", ""),
        fields.get("Bundle-SHA256", ""),
        fields.get("Gate"),
        raw.who,
        raw.email,
        raw.when,
    )


def _compare(stage: Assignment, version: Version | None) -> dict[str, str]:
    """What a stage's tag recorded of its version, against that version's tag as it is now."""
    if version is None:
        said = stage.version or f"commit {stage.commit[:12]}"
        return {stage.tag: f"gives the stage to {said}, and there is no such version"}
    if stage.commit != version.commit:
        was, now = f"commit {stage.commit[:12]}", f"commit {version.commit[:12]}"
    elif stage.bundle_sha256 and stage.bundle_sha256 != version.bundle_sha256:
        was, now = f"bundle {stage.bundle_sha256[:12]}", f"bundle {version.bundle_sha256[:12] or 'unnamed'}"
    else:
        return {}
    what = f"when {stage.tag} was made, {version.tag} was {was}; now it is {now}: one of the two was moved"
    return {version.tag: what, stage.tag: what}
