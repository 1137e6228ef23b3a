"""A table, of whatever format: one pass over its records in bounded memory, or all of them at once."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmpipe.errors import InvalidError
from mmpipe.records import csv, jsonl, parquet
from mmpipe.records.record import Record, check_rows

Read = Callable[[Path, Collection[str], list[str]], Iterator[Record]]
FORMATS: dict[str, Read] = {
    ".csv": csv.records,
    ".jsonl": jsonl.records,
    ".ndjson": jsonl.records,
    ".parquet": parquet.records,
}
"""By the ending of the file's name, in lower case."""
SHARED_CHARS = 64
"""Longer texts that are equal are held once, where all records are held."""


@dataclass
class Pass:
    """One pass over the records of a file, and what it has seen of them so far; no record is held.

    Of Parquet only the `wanted` columns are read. Iterating raises InvalidError `manifest-format` where the
    file as a whole is not what its name says, or has no good line, and `manifest-too-large` past `MAX_ROWS`
    or `MAX_TABLE_BYTES`.
    """

    path: Path
    wanted: Collection[str]
    columns: list[str] = field(default_factory=list)
    """Names of all columns; of JSONL every key that was seen."""
    count: int = 0

    def __iter__(self) -> Iterator[Record]:
        suffix = self.path.suffix.lower()
        if suffix not in FORMATS:
            raise InvalidError(
                "manifest-format", f"has the unknown extension {suffix!r}", where=str(self.path)
            )
        for record in FORMATS[suffix](self.path, self.wanted, self.columns):
            self.count += 1
            check_rows(self.path, self.count)
            yield record


@dataclass(frozen=True)
class Records:
    """All records of a file and the names of its columns, as `Pass` has them."""

    columns: Collection[str]
    records: list[Record]


def read(path: Path, wanted: Collection[str]) -> Records:
    """All records at once. Raises as `Pass` does."""
    found = Pass(path, wanted)
    known: dict[str, str] = {}
    records = [_sharing(record, known) for record in found]
    return Records(found.columns, records)


def _sharing(record: Record, known: dict[str, str]) -> Record:
    """The record with the first copy of each long text: a Parquet file can hold one once for all its rows."""
    long = {
        name: known.setdefault(cell, cell)
        for name, cell in (record.cells or {}).items()
        if isinstance(cell, str) and len(cell) > SHARED_CHARS
    }
    return replace(record, cells={**(record.cells or {}), **long}) if long else record
