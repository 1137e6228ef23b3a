"""How far an output is from the recorded one: rows, columns and files, and by how much numbers differ."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from mmpipe import tables, trees
from mmpipe.bundle import MANIFEST
from mmpipe.errors import MmpipeError

Files = Mapping[str, bytes]
"""{path below the output, "" for the output itself if it is a file: bytes}."""
SHOWN = 3


@dataclass(frozen=True)
class Distance:
    """`what` differs, in words. `same_rows`: whether only the way in which they are written does."""

    what: str
    same_rows: bool = False


def between(old: Files, new: Files) -> Distance:
    """Of the files of an output that are other bytes, or lacking, as recorded and as they came out now."""
    names = sorted(old.keys() | new.keys())
    names = [name for name in names if name != MANIFEST] or names  # it only follows the others
    if names and all(_is_table(data) for of in (old, new) for data in of.values()):
        return _between_tables(*(_joined(of) for of in (old, new)))
    words = []
    for name in names[:SHOWN]:
        told = _between_files(old[name], new[name]) if name in old and name in new else _lacking(name in old)
        words.append(f"{name}: {told}" if name else told)
    if more := len(names) - SHOWN:
        words += [f"{more} more files"] if more > 0 else []
    return Distance("; ".join(words) or "other names or order of files")


def _lacking(recorded: bool) -> str:
    return "did not come out" if recorded else "was not recorded"


def _between_files(old: bytes, new: bytes) -> str:
    try:
        if _is_table(old):
            return _between_tables(*(tables.parse(data, "") for data in (old, new))).what
        if change := _between_objects(old, new):
            return change
        return _between_weights(*(safetensors.numpy.load(data) for data in (old, new)))
    except (safetensors.SafetensorError, MmpipeError):
        return f"{len(old):,} bytes recorded, {len(new):,} now"


def _between_objects(old: bytes, new: bytes) -> str:
    """Of JSON; nothing for what is none."""
    try:
        changes = trees.changes(*(trees.flat(json.loads(data)) for data in (old, new)))
    except (ValueError, AttributeError):
        return ""
    told = [f"{c['name']} {_short(c.get('old'))} → {_short(c.get('new'))}" for c in changes[:SHOWN]]
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return (", ".join(told) + more) or "the same values, written otherwise"


def _short(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 40 else words[:39] + "…"


def _between_weights(old: dict[str, NDArray[Any]], new: dict[str, NDArray[Any]]) -> str:
    shared = [name for name in old if name in new and old[name].shape == new[name].shape]
    if len(shared) < len(old) or len(shared) < len(new):
        odd = sorted((old.keys() | new.keys()) - set(shared))
        return f"other tensors: {', '.join(odd[:SHOWN])}"
    apart = {name: _apart(old[name], new[name]) for name in shared}
    differing = sum(not np.array_equal(old[name], new[name], equal_nan=True) for name in shared)
    worst = max(apart, key=lambda name: apart[name])
    return f"{differing} of {len(shared)} tensors differ, by at most {apart[worst]:.3g} ({worst})"


def _apart(old: NDArray[Any], new: NDArray[Any]) -> float:
    if not old.size:
        return 0.0
    gaps = np.abs(old.astype(np.float64) - new.astype(np.float64))
    return float(np.nan_to_num(gaps, nan=0.0).max())


def _is_table(data: bytes) -> bool:
    return data[:4] == b"PAR1"


def _joined(files: Files) -> pa.Table:
    """The shards of a table, in order."""
    return pa.concat_tables([tables.parse(files[name], name) for name in sorted(files)])


def _between_tables(old: pa.Table, new: pa.Table) -> Distance:
    """Rows are matched by id; by their place where ids do not tell them apart."""
    if old.schema.names != new.schema.names:
        odd = sorted(set(old.schema.names) ^ set(new.schema.names))
        return Distance(f"other columns: {', '.join(odd)}")
    before, after = _rows(old), _rows(new)
    shared = before.keys() & after.keys()
    changed = sorted(key for key in shared if before[key] != after[key])
    if len(before) == len(after) == len(shared) and not changed:
        return Distance("the same rows, written otherwise", same_rows=True)
    gone, come = len(before) - len(shared), len(after) - len(shared)
    told = f"{gone} rows only as recorded, {come} only now, {len(changed)} of {len(shared)} others differ"
    columns = [n for n in old.schema.names if any(before[key][n] != after[key][n] for key in changed)]
    if columns:
        told += f" in {', '.join(columns)}" + _numbers(columns, old, before, after, changed)
        told += f", as in {', '.join(map(str, changed[:SHOWN]))}"
    return Distance(told)


def _rows(table: pa.Table) -> dict[Any, dict[str, Any]]:
    ids = table["id"].to_pylist() if "id" in table.schema.names else []
    keys = ids if len(set(ids)) == len(table) else range(len(table))
    return dict(zip(keys, table.to_pylist(), strict=True))


def _numbers(
    columns: list[str],
    table: pa.Table,
    before: Mapping[Any, Mapping[str, Any]],
    after: Mapping[Any, Mapping[str, Any]],
    changed: list[Any],
) -> str:
    """By how much numbers differ at most; a feature's bytes are numbers of the table's `dtype`."""
    dtype = (table.schema.metadata or {}).get(b"dtype", b"").decode()
    worst = 0.0
    for column in columns:
        for key in changed:
            pair = [_array(rows[key][column], dtype) for rows in (before, after)]
            if pair[0] is not None and pair[1] is not None and pair[0].shape == pair[1].shape:
                worst = max(worst, _apart(pair[0], pair[1]))
    return f" by at most {worst:.3g}" if worst else ""


def _array(value: Any, dtype: str) -> NDArray[Any] | None:
    try:
        array = np.frombuffer(value, dtype or "V1") if isinstance(value, bytes) else np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "fiu" else None
