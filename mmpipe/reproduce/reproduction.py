"""A version from its commit alone: checked out, run from nothing, and each stage judged as it ends."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from mmpipe import lockfile, trees
from mmpipe.errors import NotFoundError
from mmpipe.lockfile import Recorded
from mmpipe.registry import remote, tagged
from mmpipe.reproduce import environment, record, running, verdict
from mmpipe.reproduce.checkout import bring_data, bring_downloads, checkout
from mmpipe.reproduce.original import Original
from mmpipe.reproduce.stage import EVALUATION, Bench, Stage, committed
from mmpipe.reproduce.verdict import Verdict

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Reproduction:
    """`commit`: of the version `tag`. `record`: the bytes of the JSON that tells it all."""

    tag: str
    commit: str
    verdict: Verdict
    record: bytes


@dataclass(frozen=True)
class Start:
    """What is known before anything runs.

    `config`: of the published bundle, {} where that is not to be had. `metrics`: of its evaluation.
    `libraries`: those here, of the ones that it names. `mmpipe`: the version that stages run, and whether the
    workspace brings it.
    """

    bench: Bench
    config: dict[str, Any]
    metrics: dict[str, Any]
    libraries: dict[str, str | None]
    mmpipe: tuple[str, bool]

    def differences(self) -> list[trees.Change]:
        """Of libraries and machine, as far as they are known by now."""
        machine = environment.machine(self.config, self.bench.root) or []
        return [*environment.libraries(self.config, self.libraries), *machine]

    def same_environment(self, stages: list[Stage]) -> bool | None:
        """Whether all is as recorded; None as long as that is unknown."""
        if self.differences() or any(c.kind == "libraries" for stage in stages for c in stage.causes):
            return False
        return None if environment.machine(self.config, self.bench.root) is None else True


def reproduce(
    spec: str, *, source: str = ".", keep: bool = False, tell: Tell = lambda _: None
) -> Reproduction:
    """Make the version that a spec names again; `tell` gets a line when there is something to say.

    Stops after the first stage that settles the verdict. Raises as `tagged.Registry.resolve`, `checkout` and
    `running.run` do: a stage that fails gives no verdict.
    """
    version = tagged.read(source).resolve(spec)
    with _started(Original(version, source), keep=keep, tell=tell) as start:
        stages = _run(start, tell)
        outside = verdict.outside(start.metrics, _metrics(start.bench))
        concluded = verdict.conclude(
            stages, list(start.bench.lock), same_environment=start.same_environment(stages), outside=outside
        )
        about = {
            "recorded": {name: start.config.get(name) for name in ("libraries", "machine")},
            "libraries": start.libraries,
            "differences": start.differences(),
        }
        ran = environment.versions(start.mmpipe[0]) | {"own_package": start.mmpipe[1]}
        public = remote.public(source)
        told = record.make(version, public, verdict=concluded, stages=stages, environment=about, versions=ran)
    return Reproduction(version.tag, version.commit, concluded, told)


@contextmanager
def _started(original: Original, *, keep: bool, tell: Tell) -> Iterator[Start]:
    """A checkout with all that a run needs, and what was recorded of it."""
    version, source = original.version, original.source
    config, why = original.config()
    if why:
        tell(f"in what environment it was made is unknown: {why}")
    with checkout(version, source, keep=keep) as root:
        lock = _lock((root / lockfile.NAME), version.tag)
        bench = Bench(original, root, lock, committed(root, lock))
        mmpipe = running.code(root)
        start = Start(bench, config, _metrics(bench), environment.here(config, mmpipe[0]), mmpipe)
        _tell(start, tell)
        for path in bring_data(version, source, root):
            tell(f"brought {path}")
        bring_downloads(root)
        yield start
        if keep:
            tell(f"kept {root}")


def _run(start: Start, tell: Tell) -> list[Stage]:
    stages: list[Stage] = []
    with closing(running.run(start.bench.root)) as ended:
        for one in ended:
            stage = start.bench.judge(one, stages)
            stages.append(stage)
            tell(f"{stage.name:<14} {stage.state:<10} {stage.seconds:7.1f} s")
            for words in _told(stage):
                tell(f"    {words}")
            if verdict.ends(stages, same_environment=start.same_environment(stages)):
                break
    return stages


def _told(stage: Stage) -> Iterator[str]:
    yield from (cause.what for cause in stage.causes)
    yield from (f"{path}: {distance.what}" for path, distance in stage.differences.items())
    if not stage.counts and stage.state != "identical":
        yield "fingerprints of code: judged where a stage reads them"


def _tell(start: Start, tell: Tell) -> None:
    version, (number, own) = start.bench.original.version, start.mmpipe
    whose = "the workspace's own" if own else "of this environment"
    tell(f"{version.tag}: commit {version.commit[:12]}, bundle {version.bundle_sha256[:12]}")
    tell(f"stages run mmpipe {number}, {whose}")
    for change in environment.libraries(start.config, start.libraries):
        tell(
            f"{change['name']} {change.get('old')} was recorded, here it is {change.get('new') or 'lacking'}"
        )


def _lock(path: Any, tag: str) -> dict[str, Recorded]:
    if not path.is_file():
        fix = "run `dvc repro`, commit dvc.lock, then publish"
        raise NotFoundError(
            "workspace", "has no dvc.lock: nothing is recorded of its stages", where=tag, fix=fix
        )
    return lockfile.parse(path.read_bytes(), f"{tag} {lockfile.NAME}")


def _metrics(bench: Bench) -> dict[str, Any]:
    """Of the evaluation, as the workspace has it now; {} before there is any."""
    path = bench.root / EVALUATION
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found
