"""How two versions were made otherwise: libraries, the kind of machine, code, and the size of the bundle."""

from collections.abc import Mapping
from typing import Any

from mmpipe import trees

Tree = Mapping[str, Any]
ENVIRONMENT = ("libraries", "python")
PARAMS = "params"


def environment(old: Tree, new: Tree) -> list[trees.Change]:
    """What two configs of bundles say otherwise of libraries and machine."""
    before, after = (
        trees.flat({name: of.get(name) or {} for name in ("libraries", "machine")}) for of in (old, new)
    )
    return trees.changes(before, after)


def code(old: Mapping[str, Tree], new: Mapping[str, Tree]) -> list[dict[str, Any]]:
    """Two of {stage: fingerprint} → a row a stage that differs: `stage`, `changed`, `added`, `removed` parts.

    A part is a module or a data file of the package; a stage that one of them lacks has all of its parts.
    """
    rows = []
    for stage in sorted(old.keys() | new.keys()):
        before, after = (parts(of.get(stage, {})) for of in (old, new))
        row = {
            "changed": sorted(n for n in before.keys() & after.keys() if before[n] != after[n]),
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
        }
        if any(row.values()):
            rows.append({"stage": stage, **row})
    return rows


def parts(fingerprint: Tree) -> dict[str, Any]:
    """{module or data file: hash} of a fingerprint: all in it but parameters, libraries and Python."""
    found: dict[str, Any] = {}
    for kind, value in fingerprint.items():
        if kind in (*ENVIRONMENT, PARAMS):
            continue
        found |= value if isinstance(value, Mapping) else {kind: value}
    return found


def size(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> dict[str, Any]:
    """Bytes of two bundles, and of each file whose bytes differ."""
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return {
        "old": sum(map(len, old.values())),
        "new": sum(map(len, new.values())),
        "files": [
            {"name": name} | {side: len(of[name]) for side, of in (("old", old), ("new", new)) if name in of}
            for name in changed
        ],
    }
