"""Features that were computed before, by the hash of the content they were computed from.

A folder a fingerprint, with Parquet parts that are written once and whole: key (sha256, 32 bytes), size (of
the value, in bytes), value. It may be deleted at any time. A part damaged or gone is as if it never was.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmpipe import tables
from mmpipe.errors import InvalidError, NotFoundError, VerificationError

KEY = pa.binary(32)
PART_BYTES = 16 << 20
"""Largest sum of values that a part should have."""
SMALL_BYTES = PART_BYTES // 4
MAX_SMALL_PARTS = 64
"""More parts below `SMALL_BYTES` than this are joined."""
KEPT_FINGERPRINTS = 3
_CACHED_PARTS = 3
_STALE_S = 3600.0


class PartLostError(Exception):
    """A part that the index names could not be read; it is removed, and a new index is without it."""


@dataclass(frozen=True)
class Store:
    """The parts of one fingerprint; `value` is the type of the values."""

    folder: Path
    value: pa.DataType

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Add a part, atomically. Its name is a function of its keys: the same part twice is one."""
        if keys:
            sizes = np.fromiter(map(len, values), np.int64, len(values))
            columns = [_binary(keys, KEY), _integers(sizes), _binary(values, self.value)]
            self._write(pa.table(columns, schema=self._schema))

    def index(self) -> "Index":
        """What there is; removes damaged parts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts: list[Path] = []
        keys, sizes = [np.zeros(0, "S32")], [np.zeros(0, np.int64)]
        damaged = 0
        for path in self._parts():
            table = self._read(path, ["key", "size"])
            if table is None:
                damaged += 1
                continue
            parts.append(path)
            keys.append(np.frombuffer(_one(table["key"]).buffers()[1], "S32", len(table)))
            sizes.append(np.frombuffer(_one(table["size"]).buffers()[1], np.int64, len(table)))
        starts = np.cumsum([0, *map(len, keys[1:])])
        return Index(self, parts, starts, np.concatenate(keys), np.concatenate(sizes), damaged)

    def verify(self) -> int:
        """Read every part whole and remove the damaged; how many they were."""
        return sum(self._read(path, self._schema.names) is None for path in self._parts())

    def compact(self) -> None:
        """Join small parts when there are many of them."""
        small = [p for p in self._parts() if p.stat().st_size < SMALL_BYTES]
        if len(small) <= MAX_SMALL_PARTS:
            return
        group: list[tuple[Path, pa.Table]] = []
        total = 0
        for path in small:
            table = self._read(path, self._schema.names)
            if table is None:
                continue
            if total + table.nbytes > PART_BYTES:
                self._join(group)
                group, total = [], 0
            group.append((path, table))
            total += table.nbytes
        self._join(group)

    def tidy(self) -> None:
        """Note that this fingerprint is in use; remove the oldest others, and what a killed run left."""
        os.utime(self.folder)
        there = [path for path in self.folder.parent.iterdir() if path.is_dir()]
        folders = sorted(there, key=lambda path: (path.stat().st_mtime_ns, path.name))
        for folder in folders[:-KEPT_FINGERPRINTS]:
            shutil.rmtree(folder)
        for path in self.folder.glob(".part-*.tmp"):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    @property
    def _schema(self) -> pa.Schema:
        columns = (("key", KEY), ("size", pa.int64()), ("value", self.value))
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])

    def _write(self, table: pa.Table) -> None:
        name = hashlib.sha256(b"".join(table["key"].to_pylist())).hexdigest()[:32]
        tables.write(self.folder / f"part-{name}.parquet", table, compression="lz4")

    def _read(self, path: Path, columns: list[str]) -> pa.Table | None:
        """Columns of a part; None, and the part removed, where they cannot be had."""
        expected = pa.schema([self._schema.field(name) for name in columns])
        try:
            table = tables.read(path, columns=columns)
        except (VerificationError, InvalidError, NotFoundError):
            table = None
        if table is None or not table.schema.equals(expected):
            path.unlink(missing_ok=True)
            return None
        return table

    def _join(self, group: list[tuple[Path, pa.Table]]) -> None:
        if len(group) < 2:
            return
        self._write(pa.concat_tables([table for _, table in group]))
        for path, _ in group:
            path.unlink(missing_ok=True)


@dataclass
class Index:
    """Where each key's value is, as a row number over all parts; values are read when asked for."""

    store: Store
    parts: list[Path]
    starts: NDArray[np.int64]
    """First row of each part, and one behind the last."""
    keys: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    damaged: int
    """Parts that were found damaged and removed."""
    _cache: dict[int, pa.Array] = field(default_factory=dict)

    def rows(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """The row of each key; -1 where there is none."""
        wanted = np.frombuffer(b"".join(keys), "S32")
        if not len(self.keys):
            return np.full(len(wanted), -1)
        at = np.searchsorted(self.keys, wanted, sorter=self._order)
        found = self._order[np.minimum(at, len(self.keys) - 1)]
        return np.where(self.keys[found] == wanted, found, -1)

    def values(self, rows: NDArray[np.int64]) -> pa.Array:
        """The values of rows, null for -1, in one array. Raises PartLostError."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        place = np.full(len(rows), -1)
        pieces: list[pa.Array] = [_binary([], self.store.value)]
        total = 0
        for number in np.unique(part[rows >= 0]).tolist():
            at = np.flatnonzero((part == number) & (rows >= 0))
            pieces.append(self._values(number).take(_integers(rows[at] - self.starts[number])))
            place[at] = np.arange(total, total + len(at))
            total += len(at)
        return pa.concat_arrays(pieces).take(_integers(place, place >= 0))

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.keys, kind="stable")

    def _values(self, number: int) -> pa.Array:
        """A part's values; the few last used stay in memory."""
        values = self._cache.pop(number, None)
        if values is None:
            table = self.store._read(self.parts[number], ["value"])
            if table is None or len(table) != self.starts[number + 1] - self.starts[number]:
                self.parts[number].unlink(missing_ok=True)
                raise PartLostError(self.parts[number].name)
            values = _one(table["value"])
        self._cache[number] = values
        while len(self._cache) > _CACHED_PARTS:
            del self._cache[next(iter(self._cache))]
        return values


def _one(column: pa.ChunkedArray) -> pa.Array:
    """A column that was read from a file, as one array that starts at its buffers' start."""
    return pa.concat_arrays(column.chunks)


def _binary(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    """Bytes → an array. (`pa.array` of a list is slower, and imports pandas where that is installed: half a
    second in every worker. So does `to_numpy` of a column.)
    """
    data = pa.py_buffer(b"".join(values))
    if pa.types.is_fixed_size_binary(kind):
        return pa.Array.from_buffers(kind, len(values), [None, data])
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int64)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), data])


def _integers(values: NDArray[np.int64], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """int64 array, null where not valid."""
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.int64(), len(values), [mask, pa.py_buffer(values)])
