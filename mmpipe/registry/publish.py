"""Publishing a model: all is checked, the data are pushed, then one annotated tag is made and pushed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmpipe import tags
from mmpipe.errors import InvalidError
from mmpipe.registry import candidate, changes, data, gto_tags, messages, origin, tagged, worktree
from mmpipe.registry.candidate import Candidate
from mmpipe.registry.records import Version
from mmpipe.registry.signature import Sign
from mmpipe.registry.tagged import Registry
from mmpipe.registry.worktree import Place

_DONE = "nothing was tagged"
Judge = Callable[[Version], Mapping[str, Any]]
"""The champion → {verdict: promote or refuse, reasons: texts} about the model of the workspace."""


@dataclass(frozen=True)
class Wishes:
    """`push`: data and tags, as far as there are remotes. `dry_run`: check, and say what would be done."""

    bump: Literal["auto", "major", "minor", "patch"] = "auto"
    push: bool = True
    dry_run: bool = False
    detached: bool = False


@dataclass(frozen=True)
class Published:
    """`why`: what the number rests on. `data_remote`, `git_remote`: where data and tag are pushed to.

    `name` is the full one, with the workspace's folder. `made`: False where the tag was here already and has
    only been pushed.
    """

    tag: str
    name: str
    version: str
    commit: str
    bundle_sha256: str
    data_sha256: str
    metrics: dict[str, float]
    gate: dict[str, Any]
    why: str
    data_remote: str | None
    git_remote: str | None
    signature: str
    made: bool
    dry_run: bool


def publish(
    root: Path,
    wishes: Wishes | None = None,
    *,
    name: str = tags.NAME,
    stale: Iterable[str] = (),
    judge: Judge | None = None,
    sign: Sign | None = None,
) -> Published:
    """Give the model of a workspace its version; nothing is committed.

    `stale`: stages whose code changed since they ran. `judge`: the gate; without it the verdict is "none".
    `sign`: what signs the bundle.
    Every check comes before anything is made. They raise InvalidError `git-state`, `tree-dirty`,
    `pipeline-stale`, `tag-exists`, `data-unpushed`, VerificationError `bundle-damaged`, `tag-moved`,
    NotFoundError `bundle-missing`. After the tag there is only MmpipeError `remote-failed`: its fix is the
    command to repeat, and the same publish goes on as well.
    """
    wishes = wishes or Wishes()
    place = worktree.locate(root)
    worktree.check(place, detached=wishes.detached)
    model = candidate.load(root, place, name)
    data.check_reproduced(root, stale=stale)
    git_remote = origin.remote(place.top) if wishes.push else None
    if git_remote and not wishes.dry_run:
        _check_remote(place, git_remote, tags.full_name(place.folder, name))
    found = _plan(root, place, model, wishes, name, judge)
    if sign and found.made and not wishes.dry_run:
        found = replace(found, signature=sign(root / model.path))
    if not wishes.dry_run:
        _store(root, model, found, push=wishes.push)
        _tag(place, found, name)
    return found


def _check_remote(place: Place, remote: str, name: str) -> None:
    """Everybody's tags are here, and the remote will take the branch."""
    origin.fetch_tags(place.top, remote, name)
    if place.branch:
        origin.check_branch(place.top, remote, place.branch)


def _plan(
    root: Path, place: Place, model: Candidate, wishes: Wishes, name: str, judge: Judge | None
) -> Published:
    registry = tagged.read(root)
    full = tags.full_name(place.folder, name)
    git_remote = origin.remote(place.top) if wishes.push else None
    here = _of_commit(registry, full, place, model, git_remote)
    number, why = (here.version, "tagged before") if here else _number(place, registry, full, model, wishes)
    return Published(
        tag=tags.version_tag(full, number),
        name=full,
        version=number,
        commit=place.commit,
        bundle_sha256=model.digest,
        data_sha256=model.data_sha256,
        metrics=model.metrics,
        gate=(here.gate or {}) if here else _judged(registry, full, judge),
        why=why,
        data_remote=data.remote(root),
        git_remote=git_remote,
        signature=here.signature if here else "",
        made=here is None,
        dry_run=wishes.dry_run,
    )


def _of_commit(
    registry: Registry, name: str, place: Place, model: Candidate, git_remote: str | None
) -> Version | None:
    """The version of this very commit that is not at the remote yet: what a broken publish left.

    Raises InvalidError `tag-exists`: a commit has one version, and the same bundle is not a new one.
    """
    versions = [version for version in registry.versions if version.name == name]
    for version in versions:
        if version.commit == place.commit:
            registry.check(version.tag)
            if git_remote and not origin.has(place.top, git_remote, version.tag):
                return version
            raise InvalidError("tag-exists", "is this commit already", where=version.tag, done=_DONE)
    latest = next(reversed(registry.of(name)), None)
    if latest and latest.bundle_sha256 == model.digest:
        what = "is this bundle already, byte for byte"
        raise InvalidError("tag-exists", what, where=latest.tag, done=_DONE)
    return None


def _number(place: Place, registry: Registry, name: str, model: Candidate, wishes: Wishes) -> tuple[str, str]:
    """The new version, and why it is this one. A number that was ever used is not used again."""
    used = {version.version for version in registry.versions if version.name == name}
    unsound = (tags.parse_tag(tag) for tag in registry.problems)
    used |= {tag.version for tag in unsound if tag and tag.name == name and tag.version}
    if not used:
        return tags.bump(None, "major"), "the first version"
    newest = max(used, key=tags.order)
    if wishes.bump != "auto":
        return tags.bump(newest, wishes.bump), f"{wishes.bump}, as said"
    latest = registry.resolve(tags.Spec(name))
    before = changes.config_of(place.top, latest, (Path(place.folder) / model.path).as_posix())
    part, changed = changes.judge(before, model.config)
    what = f"{', '.join(changed)} changed" if changed else "the same task, data, params and architecture"
    return tags.bump(newest, part), f"{part}: {what} since {latest.version}"


def _judged(registry: Registry, name: str, judge: Judge | None) -> dict[str, Any]:
    """The verdict as the tag records it: against the champion, the version that holds `prod`."""
    if registry.holder(name, tags.STAGE) is None:
        return {"verdict": "none", "reasons": [f"nothing holds {tags.STAGE}"], "champion": None}
    champion = registry.resolve(tags.Spec(name, stage=tags.STAGE))
    found = judge(champion) if judge else {"verdict": "none", "reasons": ["not judged"]}
    return {"verdict": found["verdict"], "reasons": list(found["reasons"]), "champion": champion.tag}


def _store(root: Path, model: Candidate, found: Published, *, push: bool) -> None:
    """Data first: a tag never names what the remote does not have, byte for byte."""
    if found.data_remote:
        store = data.push if push else data.check_pushed
        store(root, found.data_remote, path=model.path, digest=model.digest)


def _tag(place: Place, found: Published, name: str) -> None:
    if found.made:
        message = _message(name, found)
        gto_tags.register(place.top, found.name, found.version, commit=found.commit, message=message)
    if found.git_remote:
        origin.push(place.top, found.git_remote, tag=found.tag, branch=place.branch)


def _message(name: str, found: Published) -> str:
    told = messages.told(found.metrics)
    fields = {
        "Bundle-SHA256": found.bundle_sha256,
        "Data-SHA256": found.data_sha256,
        "Metrics": found.metrics,
        "Gate": found.gate,
        **({"Signature": found.signature} if found.signature else {}),
    }
    return messages.write(f"{name} {found.version}{': ' if told else ''}{told}", fields)
