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
Judge = Callable[[Version, Path], Mapping[str, Any]]
"""The champion and the folder of the new bundle → {verdict: promote or refuse, reasons: texts}."""


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
    only been pushed. `unseen`: of a dry run, tags at the remote that are not here, and were not looked into.
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
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """What is to be published. `name`: as dvc.yaml has it, `full`: with the workspace's folder."""

    root: Path
    place: Place
    model: Candidate
    name: str
    git_remote: str | None
    data_remote: str | None

    @property
    def full(self) -> str:
        return tags.full_name(self.place.folder, self.name)


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
    case = _Case(root, place, model, name, git_remote, data.remote(root))
    unseen = _check_remote(case, dry_run=wishes.dry_run)
    found = _plan(case, wishes, judge, unseen)
    if wishes.dry_run:
        _check_stored(case, push=wishes.push)
        return found
    if sign and found.made:
        found = replace(found, signature=sign(root / model.path))
    _store(case, push=wishes.push)
    _tag(case, found)
    return found


def _check_remote(case: _Case, *, dry_run: bool) -> list[str]:
    """Everybody's tags are here, or in a dry run named; and the remote will take the branch."""
    place, remote = case.place, case.git_remote
    if remote is None:
        return []
    unseen = origin.unseen_tags(place.top, remote, case.full) if dry_run else []
    if not dry_run:
        origin.fetch_tags(place.top, remote, case.full)
    if place.branch:
        origin.check_branch(place.top, remote, place.branch)
    return unseen


def _plan(case: _Case, wishes: Wishes, judge: Judge | None, unseen: list[str]) -> Published:
    registry = tagged.read(case.root)
    here = _of_commit(registry, case)
    number, why = (here.version, "tagged before") if here else _number(case, registry, wishes, unseen)
    return Published(
        tag=tags.version_tag(case.full, number),
        name=case.full,
        version=number,
        commit=case.place.commit,
        bundle_sha256=case.model.digest,
        data_sha256=case.model.data_sha256,
        metrics=case.model.metrics,
        gate=(here.gate or {}) if here else _judged(registry, case, judge),
        why=why,
        data_remote=case.data_remote,
        git_remote=case.git_remote,
        signature=here.signature if here else "",
        made=here is None,
        dry_run=wishes.dry_run,
        unseen=tuple(unseen),
    )


def _of_commit(registry: Registry, case: _Case) -> Version | None:
    """The version of this very commit that is not at the remote yet: what a broken publish left.

    Raises InvalidError `tag-exists`: a commit has one version, and the same bundle is not a new one.
    """
    place, remote = case.place, case.git_remote
    for version in registry.versions:
        if version.name == case.full and version.commit == place.commit:
            registry.check(version.tag)
            if remote and not origin.has(place.top, remote, version.tag):
                return version
            raise InvalidError("tag-exists", "is this commit already", where=version.tag, done=_DONE)
    latest = next(reversed(registry.of(case.full)), None)
    if latest and latest.bundle_sha256 == case.model.digest:
        what = "is this bundle already, byte for byte"
        raise InvalidError("tag-exists", what, where=latest.tag, done=_DONE)
    return None


def _number(case: _Case, registry: Registry, wishes: Wishes, unseen: Iterable[str]) -> tuple[str, str]:
    """The new version, and why it is this one. A number that was ever used is not used again."""
    used = {version.version for version in registry.versions if version.name == case.full}
    elsewhere = _versions(unseen, case.full)
    used |= _versions(registry.problems, case.full) | elsewhere
    if not used:
        return tags.bump(None, "major"), "the first version"
    newest = max(used, key=tags.order)
    if wishes.bump != "auto":
        return tags.bump(newest, wishes.bump), f"{wishes.bump}, as said"
    if newest in elsewhere:
        return tags.bump(newest, "patch"), f"at least: {newest} is not here, to see what changed since"
    latest = registry.resolve(tags.Spec(case.full))
    path = (Path(case.place.folder) / case.model.path).as_posix()
    before = changes.config_of(case.place.top, latest, path)
    part, changed = changes.judge(before, case.model.config)
    what = f"{', '.join(changed)} changed" if changed else "the same task, data, params and architecture"
    return tags.bump(newest, part), f"{part}: {what} since {latest.version}"


def _versions(names: Iterable[str], model: str) -> set[str]:
    """Of the tags of a model that name one."""
    found = (tags.parse_tag(name) for name in names)
    return {tag.version for tag in found if tag and tag.name == model and tag.version}


def _judged(registry: Registry, case: _Case, judge: Judge | None) -> dict[str, Any]:
    """The verdict as the tag records it: against the champion, the version that holds `prod`."""
    if registry.holder(case.full, tags.STAGE) is None:
        return {"verdict": "none", "reasons": [f"nothing holds {tags.STAGE}"], "champion": None}
    champion = registry.resolve(tags.Spec(case.full, stage=tags.STAGE))
    found = {"verdict": "none", "reasons": ["not judged"]}
    if judge:
        found = dict(judge(champion, case.root / case.model.path))
    return {"verdict": found["verdict"], "reasons": list(found["reasons"]), "champion": champion.tag}


def _check_stored(case: _Case, *, push: bool) -> None:
    """What a look at the data's remote can tell where nothing is pushed."""
    if case.data_remote and push:
        data.check_reachable(case.root, path=case.model.path, digest=case.model.digest)
    elif case.data_remote:
        _store(case, push=False)


def _store(case: _Case, *, push: bool) -> None:
    """Data first: a tag never names what the remote does not have, byte for byte."""
    if case.data_remote:
        store = data.push if push else data.check_pushed
        store(case.root, case.data_remote, path=case.model.path, digest=case.model.digest)


def _tag(case: _Case, found: Published) -> None:
    top = case.place.top
    if found.made:
        message = _message(case.name, found)
        gto_tags.register(top, found.name, found.version, commit=found.commit, message=message)
    if found.git_remote:
        origin.push(top, found.git_remote, tag=found.tag, branch=case.place.branch)


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
