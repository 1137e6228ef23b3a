"""Trees of plain values, as JSON and YAML have them: as one level of dotted keys, and how two differ."""

from collections.abc import Mapping
from typing import Any

Change = dict[str, Any]
"""`name`, `old` and `new`; without `old` or `new` where the name is absent there."""


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}; an empty mapping stays as it is."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The keys that are not there with the same value in both, sorted."""
    found: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        if name in old and name in new and old[name] == new[name]:
            continue
        sides = {side: of[name] for side, of in (("old", old), ("new", new)) if name in of}
        found.append({"name": name, **sides})
    return found
