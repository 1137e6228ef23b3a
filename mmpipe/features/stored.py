"""Feature tables → arrays: whole columns at once, no Python per row."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmpipe import tables
from mmpipe.errors import VerificationError


@dataclass(frozen=True)
class Stored:
    """One modality of N samples: `values` are joined without padding, sample i at `start[i]`.

    `values`: (rows, ...) one row a sample where `fixed`, else (frames, ...); at least one row.
    `lengths`: (N,) rows of each sample, 0 = absent. `failed`: (N,) its extraction failed.
    `facts`: the table's metadata.
    """

    values: NDArray[Any]
    start: NDArray[np.int64]
    lengths: NDArray[np.int64]
    failed: NDArray[np.bool_]
    fixed: bool
    facts: dict[str, Any]


def read(folder: Path, ids: pa.ChunkedArray) -> Stored:
    """The features of the samples `ids`, in their order.

    Raises VerificationError `table-schema` for values that do not fit the table's shape.
    """
    about = facts(folder)
    shape, dtype = about["shape"], np.dtype(about["dtype"])
    fixed = -1 not in shape
    values: list[NDArray[Any]] = [np.zeros((0, *([*shape] if fixed else shape[1:])), dtype)]
    start = np.zeros(len(ids), np.int64)
    lengths = np.zeros(len(ids), np.int64)
    failed = np.zeros(len(ids), bool)
    total = 0
    for table in tables.read_shards(folder):
        wanted = pc.is_in(table["id"], value_set=ids.combine_chunks())
        part = table.filter(wanted)
        rows = pc.index_in(part["id"], value_set=ids.combine_chunks()).to_numpy().astype(np.int64)
        bad = part["value"].is_null().to_numpy()
        failed[rows[bad]] = True
        array, sizes = _unpack(part["value"].filter(pc.invert(pa.array(bad))), values[0], fixed, folder)
        rows = rows[~bad]
        start[rows] = total + np.cumsum(sizes) - sizes
        lengths[rows] = sizes
        values.append(array)
        total += len(array)
    joined = np.concatenate(values) if total else np.zeros((1, *values[0].shape[1:]), dtype)
    return Stored(joined, start, lengths, failed, fixed, about)


def _unpack(
    column: pa.ChunkedArray, like: NDArray[Any], fixed: bool, folder: Path
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Binary values without nulls → one array joined on its first axis, and each row's share of it."""
    array = column.combine_chunks()
    row_bytes = like.dtype.itemsize * math.prod(like.shape[1:])
    if len(array) == 0:
        return like, np.zeros(0, np.int64)
    if fixed:
        first, sizes = array.offset * row_bytes, np.full(len(array), array.type.byte_width)
    else:
        ends = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
        first, sizes = int(ends[0]), np.diff(ends)
    if (sizes % row_bytes).any() or (fixed and array.type.byte_width != row_bytes):
        raise VerificationError("table-schema", "holds values that do not fit its shape", where=str(folder))
    flat = np.frombuffer(array.buffers()[-1], np.uint8)[first : first + int(sizes.sum())]
    return flat.view(like.dtype).reshape(-1, *like.shape[1:]), sizes // row_bytes


def facts(folder: Path) -> dict[str, Any]:
    """The metadata of a feature table: dtype, shape and what the extractor noted."""
    metadata = tables.read(tables.shards(folder)[0], columns=["id"]).schema.metadata or {}
    return {key.decode(): _value(raw.decode()) for key, raw in sorted(metadata.items())}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
