"""How two versions' data differ: samples by their content, their labels, sizes and splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmpipe import shift
from mmpipe.schema import MODALITIES, SPLITS

SHOWN = 5
"""Ids named of each kind of change."""
SIZES = {
    "audio, s": "audio_duration_s",
    "image width, px": "image_width",
    "image height, px": "image_height",
    "text, characters": "text",
}
SUMMED = ("audio, s", "text, characters")
"""Of which a total says something."""

Rows = dict[str, dict[str, Any]]
Numbers = dict[str, Any]


def compare(old: pa.Table, new: pa.Table) -> Numbers:
    """Two of `schema.SAMPLES`; a sample is known by its id, its content by its hashes.

    `renamed`: of those added, the ones whose content was there under another id.
    """
    before, after = by_id(old), by_id(new)
    shared = before.keys() & after.keys()
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    changed = sorted(name for name in shared if content(before[name]) != content(after[name]))
    relabelled = sorted(name for name in shared if before[name]["target"] != after[name]["target"])
    gone = {content(before[name]) for name in removed}
    return {
        "old": len(before),
        "new": len(after),
        "added": _ids(added),
        "removed": _ids(removed),
        "renamed": sum(content(after[name]) in gone for name in added),
        "changed": _ids(changed),
        "relabelled": _ids(relabelled),
        "modalities": {m: _modality(before, after, f"{m}_sha256") for m in MODALITIES},
        "labels": _labels(before, after),
        "sizes": _sizes(old, new),
    }


def splits(old: pa.Table, new: pa.Table) -> Numbers:
    """Two of `schema.SPLIT`: how many samples each split has, and which of the shared ones moved."""
    before, after = (
        dict(zip(of["id"].to_pylist(), of["split"].to_pylist(), strict=True)) for of in (old, new)
    )
    moves: dict[tuple[str, str], list[str]] = {}
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            moves.setdefault((before[name], after[name]), []).append(name)
    return {
        "old": {split: Counter(before.values())[split] for split in SPLITS},
        "new": {split: Counter(after.values())[split] for split in SPLITS},
        "moved": [{"from": start, "to": end, **_ids(names)} for (start, end), names in sorted(moves.items())],
    }


def by_id(table: pa.Table) -> Rows:
    """{id: row}."""
    return {row["id"]: row for row in table.to_pylist()}


def content(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    """The hash of each modality; None for one that the sample lacks."""
    return tuple(row[f"{modality}_sha256"] for modality in MODALITIES)


def measured(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The numbers of a column of `SIZES` that are there, or the lengths of its texts, in characters."""
    there = column.drop_null()
    return pc.utf8_length(there) if pa.types.is_string(there.type) else there


def _ids(names: Sequence[str]) -> Numbers:
    return {"count": len(names), "ids": list(names[:SHOWN])}


def _modality(before: Rows, after: Rows, column: str) -> Numbers:
    old, new = (
        {name: row[column] for name, row in rows.items() if row[column] is not None}
        for rows in (before, after)
    )
    return {
        "old": len(old),
        "new": len(new),
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": sum(old[name] != new[name] for name in old.keys() & new.keys()),
    }


def _labels(before: Rows, after: Rows) -> Numbers:
    """`shift`: the total variation distance of the two distributions: 0 for the same shares, 1 at most."""
    old, new = (Counter(row["target"] or "" for row in rows.values()) for rows in (before, after))
    names = sorted(old.keys() | new.keys())
    counts = [[of[name] for name in names] for of in (old, new)]
    return {
        "shift": round(shift.total_variation(*counts), 6),
        "counts": [{"label": name, "old": old[name], "new": new[name]} for name in names],
    }


def _sizes(old: pa.Table, new: pa.Table) -> list[Numbers]:
    found = []
    for name, column in SIZES.items():
        sides = [_spread(of[column], total=name in SUMMED) for of in (old, new)]
        if sides[0]["samples"] or sides[1]["samples"]:
            found.append({"name": name, "old": sides[0], "new": sides[1]})
    return found


def _spread(column: pa.ChunkedArray, *, total: bool) -> Numbers:
    """Of numbers, or of the lengths of texts; nothing but `samples` where there are none."""
    values = measured(column).to_numpy()
    if not len(values):
        return {"samples": 0}
    told = {"mean": float(np.mean(values)), "median": float(np.median(values))}
    told |= {"total": float(np.sum(values))} if total else {}
    return {"samples": len(values), **{name: round(number, 6) for name, number in told.items()}}
