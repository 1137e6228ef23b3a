"""Features that were computed before, by the hash of the content they were computed from.

A folder a fingerprint, with Parquet parts that are written once and whole: key (sha256, 32 bytes), size (bytes of
the value), value. The folder may be deleted at any time. A part that is damaged or gone is as if it had never been.
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
import pyarrow.compute as pc
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

    def put(self, keys: Sequence[bytes], values: Sequence[bytes] | pa.Array) -> None:
        """Add a part, atomically. Its name is a function of its keys: the same part twice is one."""
        if not keys:
            return
        column = values if isinstance(values, pa.Array) else pa.array(values, self.value)
        sizes = pc.cast(pc.binary_length(column), pa.int64())
        table = pa.table([pa.array(keys, KEY), sizes, column], schema=self._schema)
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:32]
        tables.write(self.folder / f"part-{name}.parquet", table, compression="lz4")

    def index(self) -> "Index":
        """What there is; removes damaged parts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts: list[Path] = []
        found: list[pa.Table] = [self._schema.empty_table().select(["key", "size"])]
        damaged = 0
        for path in sorted(self.folder.glob("part-*.parquet")):
            table = self._read(path, ["key", "size"])
            if table is None:
                damaged += 1
            else:
                parts.append(path)
                found.append(table)
        starts = np.cumsum([0, *(len(table) for table in found[1:])])
        joined = pa.concat_tables(found).combine_chunks()
        return Index(self, parts, starts, joined, damaged)

    def compact(self) -> None:
        """Join small parts when there are many of them."""
        small = [p for p in sorted(self.folder.glob("part-*.parquet")) if p.stat().st_size < SMALL_BYTES]
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
        """Note that this fingerprint is in use; remove the oldest others, and what a killed run left behind."""
        os.utime(self.folder)
        folders = sorted(self.folder.parent.iterdir(), key=lambda p: (p.stat().st_mtime_ns, p.name))
        for folder in folders[:-KEPT_FINGERPRINTS]:
            shutil.rmtree(folder)
        for path in self.folder.glob(".part-*.tmp"):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink(missing_ok=True)

    @property
    def _schema(self) -> pa.Schema:
        columns = (("key", KEY), ("size", pa.int64()), ("value", self.value))
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])

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
        table = pa.concat_tables([table for _, table in group]).combine_chunks()
        self.put(table["key"].to_pylist(), table["value"].combine_chunks())
        for path, _ in group:
            path.unlink(missing_ok=True)


@dataclass
class Index:
    """Where each key's value is, as the row number in all parts one after another; values are read when asked for."""

    store: Store
    parts: list[Path]
    starts: NDArray[np.int64]
    table: pa.Table
    damaged: int
    """Parts that were found damaged and removed."""
    _cache: dict[int, pa.Array] = field(default_factory=dict)

    def rows(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """The row of each key; -1 where there is none."""
        found = pc.index_in(pa.array(keys, KEY), value_set=self.table["key"].combine_chunks())
        return np.asarray(pc.fill_null(found, -1).to_numpy().astype(np.int64))

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of the value of each row; 0 for -1."""
        return np.where(rows < 0, 0, self._sizes[rows])

    def values(self, rows: NDArray[np.int64]) -> pa.Array:
        """The values of rows, null for -1, in one array. Raises PartLostError."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        place = np.full(len(rows), -1)
        pieces: list[pa.Array] = [pa.array([], self.store.value)]
        total = 0
        for number in np.unique(part[rows >= 0]).tolist():
            at = np.flatnonzero((part == number) & (rows >= 0))
            pieces.append(self._values(number).take(pa.array(rows[at] - self.starts[number])))
            place[at] = np.arange(total, total + len(at))
            total += len(at)
        return pa.concat_arrays(pieces).take(pa.array(place, mask=place < 0))

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.append(self.table["size"].to_numpy(), 0)

    def _values(self, number: int) -> pa.Array:
        """A part's values; the few last used stay in memory."""
        values = self._cache.pop(number, None)
        if values is None:
            table = self.store._read(self.parts[number], ["value"])
            if table is None or len(table) != self.starts[number + 1] - self.starts[number]:
                self.parts[number].unlink(missing_ok=True)
                raise PartLostError(self.parts[number].name)
            values = table["value"].combine_chunks()
        self._cache[number] = values
        while len(self._cache) > _CACHED_PARTS:
            del self._cache[next(iter(self._cache))]
        return values
