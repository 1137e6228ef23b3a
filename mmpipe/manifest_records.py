"""The records of a CSV, JSONL or Parquet file; a bad line is put aside and does not end the read."""

import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from mmpipe.errors import InvalidError

MAX_LINE_BYTES = 4 << 20
"""A longer line of CSV or JSONL is a bad row, and so is a cell of Parquet that is longer."""
MAX_CELL_CHARS = 1 << 20
"""Longest CSV field: also how far an unclosed quote can reach before it is noticed."""


@dataclass(frozen=True)
class Record:
    """`line` is where it starts, counted from 1; `cells` is None where `fault` says what is wrong."""

    line: int
    cells: Mapping[str, Any] | None
    fault: str = ""


@dataclass(frozen=True)
class Records:
    """All records of a file and the names of its columns (of JSONL: every key that was seen)."""

    columns: Collection[str]
    records: list[Record]


def read(path: Path, wanted: Collection[str]) -> Records:
    """The records of a file by its extension; of Parquet only the `wanted` columns are read.

    Raises InvalidError `manifest-format` where the file as a whole is not what its name says.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path, wanted)
    if suffix not in readers:
        raise InvalidError("manifest-format", f"has the unknown extension {suffix!r}", where=str(path))
    with path.open("rb") as file:
        return readers[suffix](path, _Lines(path, file))


@dataclass
class _Lines:
    """Decoded lines of a file, as an iterator that can be put back; `bad` says which lines are no text."""

    path: Path
    file: BinaryIO
    number: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.again.pop() if self.again else self._fresh()
        self.number += 1
        self.taken.append(line)
        return line

    def put_back(self) -> None:
        """All lines taken since `taken` was emptied, except the first, come again."""
        self.again.extend(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1

    def _fresh(self) -> str:
        raw = self.file.readline(MAX_LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        number = self.number + 1
        if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            _refuse(self.path, 1, "is UTF-16", "save the manifest as UTF-8")
        if len(raw) > MAX_LINE_BYTES:
            while not raw.endswith(b"\n") and (raw := self.file.readline(MAX_LINE_BYTES)):
                pass
            self.bad[number] = f"is longer than {MAX_LINE_BYTES:,} bytes"
            return "\n"
        try:
            return raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            self.bad[number] = f"is not UTF-8 at byte {error.start + 1}"
            return raw.decode("utf-8", "replace")


def _csv(path: Path, lines: _Lines) -> Records:
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        _refuse(path, 1, f"is no CSV ({error})", "give a header line, commas between cells and line ends")
    if header and header[0].startswith("{"):
        _refuse(path, 1, "is named .csv but holds JSON", "rename it to .jsonl, with one object a line")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        _refuse(path, 1, f"has two columns named {twice[0]!r}", "give each column its own name")
    return Records(header, list(_csv_records(lines, reader, header)))


def _csv_records(lines: _Lines, reader: Any, header: list[str]) -> Iterator[Record]:
    while True:
        start = lines.number + 1
        lines.taken.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            lines.put_back()
            yield Record(start, None, f"is no CSV ({error})")
            continue
        if cells is None:
            return
        faults = [
            f"line {number} {lines.bad[number]}"
            for number in range(start, lines.number + 1)
            if number in lines.bad
        ]
        if faults:
            yield Record(start, None, faults[0])
        elif len(cells) == len(header):
            yield Record(start, dict(zip(header, cells, strict=True)))
        elif cells:
            yield Record(start, None, f"has {len(cells)} cells, the header has {len(header)}")


def _jsonl(path: Path, lines: _Lines) -> Records:
    columns: dict[str, None] = {}
    records: list[Record] = []
    for line in lines:
        lines.taken.clear()
        text = line.strip()
        if not text and lines.number not in lines.bad:
            continue
        record = _json_record(lines.number, text, lines.bad.get(lines.number, ""))
        if not records and record.cells is None and not text.startswith("{"):
            _refuse(
                path,
                lines.number,
                "holds no JSON object",
                "give one JSON object a line, or rename a table to .csv",
            )
        columns.update(dict.fromkeys(record.cells or ()))
        records.append(record)
    return Records(columns, records)


def _json_record(number: int, text: str, fault: str) -> Record:
    if fault:
        return Record(number, None, fault)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number, parse_int=str
        )
    except json.JSONDecodeError as error:
        return Record(number, None, f"is no JSON at column {error.colno}: {error.msg}")
    except ValueError as error:
        return Record(number, None, str(error))
    except RecursionError:
        return Record(number, None, "is nested too deep")
    if not isinstance(value, dict):
        return Record(number, None, "is no JSON object")
    return Record(number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"holds {text}, which is no JSON number")


def _number(text: str) -> str:
    if math.isinf(float(text)):
        raise ValueError(f"holds {text}, which is too large a number")
    return text


def _parquet(path: Path, wanted: Collection[str]) -> Records:
    """Strings are read as dictionaries, so that a long one that is repeated is held once."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as probe:
            schema = probe.schema_arrow
        names = [name for name in schema.names if name in wanted]
        texts = [name for name in names if pa.types.is_string(schema.field(name).type)]
        for name in names:
            _check_type(path, name, schema.field(name).type)
        records: list[Record] = []
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=4096, columns=names):
                columns = [_cells(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    records.append(
                        _parquet_record(len(records) + 1, dict(zip(batch.schema.names, cells, strict=True)))
                    )
    except (OSError, pa.ArrowException) as error:
        raise InvalidError("manifest-format", f"is no readable Parquet ({error})", where=str(path)) from None
    return Records(schema.names, records)


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    if not (text or pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
        what = f"column {name!r} is of type {kind}; text and numbers are allowed"
        raise InvalidError("manifest-columns", what, where=str(path))


def _cells(column: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


def _parquet_record(row: int, cells: dict[str, Any]) -> Record:
    for name, cell in cells.items():
        if isinstance(cell, str) and len(cell) > MAX_CELL_CHARS:
            return Record(row, None, f"has {len(cell):,} characters in {name!r}")
    return Record(row, cells)


def _refuse(path: Path, line: int, what: str, fix: str) -> NoReturn:
    raise InvalidError("manifest-format", what, where=f"{path}:{line}:1", fix=fix)
