"""How two versions' metrics differ, each with its interval, and those of every class."""

from collections.abc import Mapping
from typing import Any

from mmpipe import trees

Tree = Mapping[str, Any]
APART = ("per_class", "fusion_gain")
"""Of the test metrics, what is no figure of the model alone."""


def metrics(old: Tree, new: Tree) -> list[dict[str, Any]]:
    """Every number of two trees of metrics, by dotted name: `old`, `new`, `delta`, `old_95`, `new_95`.

    What one of them lacks is left out there; so are intervals and deltas that there are none of.
    """
    before, after = _figures(old), _figures(new)
    rows = []
    for name in [*before, *(name for name in after if name not in before)]:
        row: dict[str, Any] = {"name": name}
        for side, of in (("old", before), ("new", after)):
            row |= {f"{side}{key}": value for key, value in of.get(name, {}).items()}
        if "old" in row and "new" in row:
            row["delta"] = round(row["new"] - row["old"], 6)
        rows.append(row)
    return rows


def classes(old: Tree, new: Tree) -> list[dict[str, Any]]:
    """A row a class of either: `label`, and {old, new, delta} of recall, F1 and count of test samples."""
    before, after = ({row["label"]: row for row in of["per_class"]} for of in (old, new))
    return [
        {"label": label, **{key: _both(before.get(label), after.get(label), key) for key in ("recall", "f1")}}
        | {"samples": _both(before.get(label), after.get(label), "support")}
        for label in sorted(before.keys() | after.keys())
    ]


def _figures(tree: Tree) -> dict[str, dict[str, Any]]:
    """{dotted name: {"": value, "_95": [low, high]}}, in the tree's order."""
    found: dict[str, dict[str, Any]] = {}
    flat = {name: value for name, value in trees.flat(tree).items() if not name.startswith(APART)}
    for name, value in flat.items():
        stem = next((name.removesuffix(end) for end in ("_low", "_high", "_95") if name.endswith(end)), name)
        if stem in flat and stem != name:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = flat.get(f"{name}_low"), flat.get(f"{name}_high")
            interval = flat.get(f"{name}_95") or (
                [low, high] if low is not None and high is not None else None
            )
            found[name] = {"": value} | ({"_95": interval} if interval else {})
    return found


def _both(old: Tree | None, new: Tree | None, key: str) -> dict[str, Any]:
    sides = {side: of[key] for side, of in (("old", old), ("new", new)) if of is not None}
    return sides | ({"delta": round(sides["new"] - sides["old"], 6)} if len(sides) == 2 else {})
