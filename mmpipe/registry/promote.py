"""Giving a stage to a version, and back to an earlier one: one more annotated tag each, none is replaced."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpipe import tags, vcs
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, UsageError
from mmpipe.registry import gto_tags, messages, origin, tagged, worktree
from mmpipe.registry.records import Assignment, Version
from mmpipe.registry.tagged import Registry
from mmpipe.registry.worktree import Place

_DONE = "nothing was tagged"


@dataclass(frozen=True)
class Move:
    """`tag`: of the assignment that counts now. `before`: the version that held the stage, None if none did.

    `changed`: False where the version held it already. `late`: the clock is behind that of the tag before,
    so that GTO and DVC, which go by clock, still see the version before.
    """

    tag: str
    name: str
    version: str
    stage: str
    before: str | None
    action: str
    changed: bool
    git_remote: str | None
    late: bool = False


@dataclass(frozen=True)
class Terms:
    """`why`: for the log. `force`: in spite of the gate, with a why. `push`: to the git remote, if any."""

    stage: str = tags.STAGE
    why: str = ""
    force: bool = False
    push: bool = True


def promote(root: Path, spec: str, terms: Terms | None = None) -> Move:
    """Give a stage to the version that a spec means.

    Raises InvalidError `gate-refused` where something holds the stage and the version's own tag does not say
    that the gate let it pass, unless forced; NotFoundError `tag-missing`, VerificationError `tag-moved`.
    """
    terms = terms or Terms()
    if terms.force and not terms.why.strip():
        raise UsageError("usage", "--force needs --why: the log shall say it")
    wanted = tags.parse_spec(spec)
    place, registry, remote = _open(root, wanted.name, terms)
    version = registry.resolve(wanted)
    holder = registry.holder(version.name, terms.stage)
    if holder and not terms.force and holder.version != version.version:
        _check_gate(version, holder)
    return _move(place, registry, version, "promote", terms, remote)


def rollback(root: Path, to: str | None = None, terms: Terms | None = None, *, name: str = tags.NAME) -> Move:
    """Give a stage back to the version that held it before, or to any published one; no gate is asked.

    `to`: a version as v1.1.0, or a spec. A version that was rolled back from is not gone back to.
    Raises NotFoundError `tag-missing` where there is none before, VerificationError `tag-moved`.
    """
    terms = terms or Terms()
    wanted = tags.Spec(name)
    if to is not None:
        wanted = tags.parse_spec(to) if "@" in to or "#" in to else tags.Spec(name, tags.check_version(to))
    place, registry, remote = _open(root, wanted.name, terms)
    if to is None:
        wanted = tags.Spec(name, _before(registry, registry.full_name(name), terms.stage))
    return _move(place, registry, registry.resolve(wanted), "rollback", terms, remote)


def held(log: Sequence[Assignment]) -> list[str]:
    """The versions to go back through, the present one last: what was rolled back from is left out."""
    stack: list[str] = []
    for assignment in log:
        version = assignment.version
        if assignment.action in ("unassign", "rollback"):
            stack = stack[:-1] if assignment.action == "rollback" else [v for v in stack if v != version]
        if assignment.action == "rollback" and version in stack:
            stack = stack[: len(stack) - stack[::-1].index(version)]
        elif assignment.action != "unassign" and stack[-1:] != [version]:
            stack.append(version)
    return stack


def _open(root: Path, name: str, terms: Terms) -> tuple[Place, Registry, str | None]:
    """The registry as everybody has it, and the git remote to push to."""
    tags.check_stage(terms.stage)
    place = worktree.locate(root)
    remote = origin.remote(place.top) if terms.push else None
    if remote:
        full = tagged.read(root).full_name(name)
        origin.fetch_tags(place.top, remote, full)
    return place, tagged.read(root), remote


def _before(registry: Registry, name: str, stage: str) -> str:
    holder = registry.holder(name, stage)
    if holder is None:
        fix = f"mmpipe promote --stage {stage}"
        raise NotFoundError("tag-missing", "nothing holds it", where=f"{name}#{stage}", done=_DONE, fix=fix)
    versions = [version for version in held(registry.log(name, stage)) if version != holder.version]
    if not versions:
        what = f"nothing held it before {holder.version}"
        fix = "name a version: --to vX.Y.Z"
        raise NotFoundError("tag-missing", what, where=f"{name}#{stage}", done=_DONE, fix=fix)
    return versions[-1]


def _check_gate(version: Version, holder: Assignment) -> None:
    """The version's tag says that it may take the place of the version that holds the stage."""
    gate = version.gate or {"verdict": "none", "reasons": ["its tag records no verdict"]}
    told = [reason.rstrip(".") for reason in gate.get("reasons", [])]
    reasons = "; ".join(told) or "no reason is recorded"
    if gate["verdict"] != "promote":
        word = "did not let it pass" if gate["verdict"] == "refuse" else "was not asked"
        what = f"the gate {word} when it was published: {reasons}"
        raise InvalidError("gate-refused", what, where=version.tag, done=_DONE)
    champion = tags.version_tag(holder.name, holder.version)
    if holder.stage == tags.STAGE and gate.get("champion") not in (None, champion):
        what = f"was judged against {gate['champion']}, and {champion} holds {holder.stage} now"
        raise InvalidError("gate-refused", what, where=version.tag, done=_DONE)


def _move(
    place: Place, registry: Registry, version: Version, action: str, terms: Terms, remote: str | None
) -> Move:
    holder = registry.holder(version.name, terms.stage)
    changed = holder is None or holder.version != version.version
    before = holder.version if holder else None
    tag, late = holder.tag if holder else "", False
    if changed:
        times = [a.when for a in registry.assignments if a.name == version.name and a.when]
        late = not gto_tags.wait_past(max(times, default=None))
        tag = gto_tags.assign(
            place.top,
            version.name,
            version.version,
            stage=terms.stage,
            message=_message(version, action, terms),
        )
    if remote:
        _push(place, remote, tag, made=changed)
    return Move(tag, version.name, version.version, terms.stage, before, action, changed, remote, late)


def _push(place: Place, remote: str, tag: str, *, made: bool) -> None:
    """Where somebody else was quicker with the same number, our tag goes: theirs is the one that counts."""
    try:
        origin.push(place.top, remote, tag=tag)
    except MmpipeError as error:
        if not (made and "already exists" in error.what):
            raise
        vcs.git("tag", "--delete", tag, cwd=place.top)
        what = f"was given by somebody else meanwhile, at {remote}"
        fix = "look at `mmpipe history`, then run it again"
        raise MmpipeError("tag-exists", what, where=tag, done="ours was removed", fix=fix) from None


def _message(version: Version, action: str, terms: Terms) -> str:
    """What the stage's tag says of its version is what a later reader compares that version's tag with."""
    name = version.name.rpartition(":")[2]
    word = "takes" if action == "promote" else "is back in"
    fields = {
        "Version": version.version,
        "Bundle-SHA256": version.bundle_sha256,
        "Action": action,
        "Why": terms.why,
        "Gate": version.gate or {"verdict": "none", "reasons": [], "champion": None},
    }
    return messages.write(f"{name} {version.version} {word} {terms.stage}", fields)
