"""Why a stage cannot come out as recorded: what it reads now is not what was recorded of its run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mmpipe import paths, trees
from mmpipe.compare import versions
from mmpipe.lockfile import Recorded

Fingerprint = Mapping[str, Any]
SHOWN = 4
"""Names in a sentence."""


@dataclass(frozen=True)
class Cause:
    """`kind`: params, command, pipeline, data, code, metrics, tag: the record was altered; or libraries.

    `libraries` are this environment's: no altered record, and no reason by itself for other results.
    """

    kind: str
    what: str

    @property
    def altered(self) -> bool:
        """Whether the version's own records contradict one another."""
        return self.kind != "libraries"


@dataclass(frozen=True)
class Upstream:
    """Outs of the stages that ran before: {path: whether it came out as recorded}."""

    same: Mapping[str, bool]

    def of(self, path: str) -> bool | None:
        """Whether what a dependency holds came out as recorded; None where no stage makes it."""
        found = [same for out, same in self.same.items() if _touch(path, out)]
        return all(found) if found else None


def find(
    old: Recorded,
    new: Recorded,
    upstream: Upstream,
    fingerprints: Callable[[str], tuple[Fingerprint | None, Fingerprint]],
) -> list[Cause]:
    """Of one stage, recorded with the version and just now. `fingerprints`: path → as recorded, as now."""
    changed = trees.changes(old.params, new.params)
    causes = [Cause("params", f"recorded with {_told(changed)}")] if changed else []
    if old.command != new.command:
        causes.append(Cause("command", f"recorded as `{old.command}`, dvc.yaml says `{new.command}`"))
    for path in sorted(old.deps.keys() | new.deps.keys()):
        if path not in old.deps or path not in new.deps:
            where = "dvc.yaml" if path in new.deps else "dvc.lock"
            causes.append(Cause("pipeline", f"depends on {path} in {where} alone"))
        elif old.deps[path] == new.deps[path]:
            continue
        elif PurePosixPath(path).parent == PurePosixPath(paths.CODE):
            causes += _code(*fingerprints(path))
        elif upstream.of(path) is not False:
            causes.append(Cause("data", f"{path} is not the one that was recorded"))
    return causes


def _touch(path: str, out: str) -> bool:
    """Whether one of the two is the other, or lies in it."""
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def _told(changed: list[trees.Change]) -> str:
    words = [f"{c['name']} {c.get('old', 'absent')}, now {c.get('new', 'absent')}" for c in changed[:SHOWN]]
    return "; ".join(words) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")


def _code(old: Fingerprint | None, new: Fingerprint) -> Iterator[Cause]:
    """What differs between two fingerprints. Another Python writes the same code down otherwise."""
    if old is None:
        yield Cause("code", "is not the code that was recorded, whose fingerprint is not to be had")
        return
    libraries = trees.changes(*(_environment(of) for of in (old, new)))
    if libraries:
        yield Cause("libraries", f"recorded with {_told(libraries)}")
    if old.get("python") == new.get("python"):
        before, after = versions.parts(old), versions.parts(new)
        if names := [change["name"] for change in trees.changes(before, after)]:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield Cause("code", f"other code in {', '.join(names[:SHOWN])}{more}")
    values = trees.changes(*(trees.flat(of.get(versions.PARAMS) or {}) for of in (old, new)))
    if values:
        yield Cause("params", f"recorded with {_told(values)}")


def _environment(fingerprint: Fingerprint) -> dict[str, Any]:
    return {**(fingerprint.get("libraries") or {}), "python": fingerprint.get("python")}
