"""One stage that ran again, held against what the version recorded of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mmpipe import bundle, lockfile, paths
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.lockfile import Recorded
from mmpipe.reproduce import causes
from mmpipe.reproduce.causes import Cause, Fingerprint, Upstream
from mmpipe.reproduce.distance import Distance
from mmpipe.reproduce.original import Original
from mmpipe.reproduce.running import Ended

EVALUATION = paths.METRICS / "evaluate.json"
State = Literal["identical", "differs", "altered"]
STRICT = ("fetch", "ingest", "split", "tokenizer")
"""Stages whose rows must be the same everywhere: they compute no floating-point numbers."""


@dataclass(frozen=True)
class Stage:
    """`outs`: {path: (md5 recorded, md5 now)}, None where there is none. `differences`: of those that differ.

    `altered`: what was recorded is not what the commit, its data or the tag say, whatever came out.
    """

    name: str
    state: State
    seconds: float
    outs: dict[str, tuple[str | None, str | None]]
    causes: Sequence[Cause] = ()
    differences: dict[str, Distance] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Fingerprints of code are judged where a stage reads them."""
        return not all(PurePosixPath(path).parent == PurePosixPath(paths.CODE) for path in self.outs)

    @property
    def other_rows(self) -> bool:
        """Whether what must be the same everywhere is not."""
        return self.name in STRICT and not all(one.same_rows for one in self.differences.values())

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return {
            "name": self.name,
            "state": self.state,
            "seconds": round(self.seconds, 1),
            "outs": {path: {"recorded": was, "now": now} for path, (was, now) in self.outs.items()},
            "causes": [{"kind": cause.kind, "what": cause.what} for cause in self.causes],
            "differences": {path: one.what for path, one in self.differences.items()},
        }


@dataclass(frozen=True)
class Bench:
    """Where stages are judged: the version, the workspace that it runs in, and the version's `dvc.lock`.

    `committed`: {stage: its outs that git holds in the fresh checkout, yet not as dvc.lock records them}.
    """

    original: Original
    root: Path
    lock: Mapping[str, Recorded]
    committed: Mapping[str, Sequence[Cause]]

    def judge(self, ended: Ended, before: Sequence[Stage]) -> Stage:
        """A stage that ended, after the stages `before`."""
        old, new = self.lock.get(ended.name), ended.recorded
        outs = _outs(old, new)
        if old is None:
            cause = Cause("pipeline", "dvc.lock of the version has no record of it")
            return Stage(ended.name, "altered", ended.seconds, outs, [cause])
        upstream = Upstream({path: was == now for one in before for path, (was, now) in one.outs.items()})
        found = [*causes.find(old, new, upstream, self._fingerprints), *self.committed.get(ended.name, ())]
        differing = [path for path, (was, now) in outs.items() if was != now]
        found += [] if differing else self._tagged(outs)
        if any(cause.altered for cause in found):
            state: State = "altered"
        else:
            state = "differs" if differing else "identical"
        stage = Stage(ended.name, state, ended.seconds, outs, found)
        if not stage.counts:
            return stage
        return replace(stage, differences={path: self._distance(path) for path in differing})

    def _fingerprints(self, path: str) -> tuple[Fingerprint | None, Fingerprint]:
        was, now = self.original.read(path), (self.root / path).read_bytes()
        return None if was is None else json.loads(was), json.loads(now)

    def _distance(self, path: str) -> Distance:
        try:
            return self.original.distance(path, self.root)
        except (NotFoundError, VerificationError) as error:
            return Distance(f"the recorded one cannot be compared: {error.what}")

    def _tagged(self, outs: Mapping[str, Any]) -> list[Cause]:
        """Where the tag itself says otherwise than outputs that came out as recorded."""
        version = self.original.version
        if paths.BUNDLE.as_posix() in outs and version.bundle_sha256:
            manifest = self.root / paths.BUNDLE / bundle.MANIFEST
            _, digest = bundle.parse(manifest.read_bytes(), str(manifest))
            if digest != version.bundle_sha256:
                return [
                    Cause("tag", f"the tag names bundle {version.bundle_sha256[:12]}, this is {digest[:12]}")
                ]
        if EVALUATION.as_posix() in outs:
            metrics = json.loads((self.root / EVALUATION).read_bytes())
            for name, told in version.metrics.items():
                if metrics.get(name) != told:
                    return [Cause("tag", f"the tag says {name} {told}, this is {metrics.get(name)}")]
        return []


def committed(root: Path, lock: Mapping[str, Recorded]) -> dict[str, list[Cause]]:
    """For `Bench`, of a checkout in which nothing has run."""
    found: dict[str, list[Cause]] = {}
    for name, one in lock.items():
        for path, md5 in one.outs.items():
            if lockfile.hashed(root / path) not in (None, md5):
                what = f"{path} of the commit is not what dvc.lock records"
                found.setdefault(name, []).append(Cause("metrics", what))
    return found


def _outs(old: Recorded | None, new: Recorded) -> dict[str, tuple[str | None, str | None]]:
    was = old.outs if old else {}
    return {path: (was.get(path), new.outs.get(path)) for path in sorted(was.keys() | new.outs.keys())}
