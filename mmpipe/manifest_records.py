"""The records of a CSV, JSONL or Parquet file; a bad line is put aside and does not end the read."""

import csv
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from mmpipe.errors import InvalidError

MAX_LINE_BYTES = 4 << 20
"""A longer line of CSV or JSONL is a bad row, and so is a cell of Parquet that is longer."""
MAX_CELL_CHARS = 1 << 20
"""Longest CSV field: also how far an unclosed quote can reach before it is noticed."""
MAX_ROWS = 1_000_000
"""Of one table: about 1 GB of memory. A Parquet file of 16 KB can have millions of equal rows."""
MAX_TABLE_BYTES = 1 << 29
"""Of the wanted columns of a Parquet file, uncompressed; a text that the file holds once counts once."""
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
"""Of files that `read` takes."""
_AS_UTF8 = "save the manifest as UTF-8"


@dataclass(frozen=True)
class Record:
    """`line` is where it starts, counted from 1; `cells` is None where `fault` says what is wrong."""

    line: int
    cells: Mapping[str, Any] | None
    fault: str = ""
    column: int = 1
    """Of the fault, where that is known."""


@dataclass(frozen=True)
class Records:
    """All records of a file and the names of its columns (of JSONL: every key that was seen)."""

    columns: Collection[str]
    records: list[Record]


def read(path: Path, wanted: Collection[str]) -> Records:
    """The records of a file by its extension; of Parquet only the `wanted` columns are read.

    Raises InvalidError `manifest-format` where the file as a whole is not what its name says, or has no good
    line, and `manifest-too-large` past `MAX_ROWS` or `MAX_TABLE_BYTES`.
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
            _refuse(self.path, 1, "is UTF-16", _AS_UTF8)
        if number == 1 and b"\0" in raw[:4]:
            _refuse(self.path, 1, "holds NUL bytes (UTF-16 without a byte order mark?)", _AS_UTF8)
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
    for line, words in lines.bad.items():
        _refuse(path, line, f"{words}: this is the header", _AS_UTF8)
    if header and header[0].startswith("{"):
        _refuse(path, 1, "is named .csv but holds JSON", "rename it to .jsonl, with one object a line")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        _refuse(path, 1, f"has two columns named {twice[0]!r}", "give each column its own name")
    records = _bounded(path, _csv_records(lines, reader, header))
    return Records(header, records)


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


def _bounded(path: Path, records: Iterable[Record]) -> list[Record]:
    found = list(islice(records, MAX_ROWS + 1))
    _check_rows(path, len(found))
    return found


def _check_rows(path: Path, rows: int) -> None:
    if rows > MAX_ROWS:
        what = f"has more rows than the {MAX_ROWS:,} that are allowed"
        raise InvalidError("manifest-too-large", what, where=str(path))


def _jsonl(path: Path, lines: _Lines) -> Records:
    records = _bounded(path, _json_records(path, lines))
    if records and all(record.cells is None for record in records):
        first = records[0]
        fix = "correct it: each line is one JSON object, without a comma after it or after its last value"
        _refuse(path, first.line, first.fault, fix, column=first.column)
    columns = dict.fromkeys(key for record in records for key in record.cells or ())
    return Records(columns, records)


def _json_records(path: Path, lines: _Lines) -> Iterator[Record]:
    first = True
    for line in lines:
        lines.taken.clear()
        text, fault = line.strip(), lines.bad.get(lines.number, "")
        if not text and not fault:
            continue
        record = _json_record(lines.number, text, fault)
        if first and record.cells is None and not fault and not text.startswith("{"):
            fix = "give one JSON object a line, or rename a table to .csv"
            _refuse(path, lines.number, "holds no JSON object", fix)
        first = False
        yield record


def _json_record(number: int, text: str, fault: str) -> Record:
    if fault:
        return Record(number, None, fault)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number, parse_int=str
        )
    except json.JSONDecodeError as error:
        comma = text[error.pos :].strip() == "," and error.msg == "Extra data"
        words = "a comma after the object" if comma else error.msg
        return Record(number, None, f"is no JSON at column {error.colno}: {words}", error.colno)
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
            schema, metadata = probe.schema_arrow, probe.metadata
        names = [name for name in schema.names if name in wanted]
        texts = [name for name in names if _is_text(schema.field(name).type)]
        for name in names:
            _check_type(path, name, schema.field(name).type)
        _check_parquet_size(path, metadata, names)
        records: list[Record] = []
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=4096, columns=names):
                columns = [_cells(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    records.append(
                        _parquet_record(len(records) + 1, dict(zip(batch.schema.names, cells, strict=True)))
                    )
                _check_rows(path, len(records))
    except (OSError, pa.ArrowException) as error:
        raise InvalidError("manifest-format", f"is no readable Parquet ({error})", where=str(path)) from None
    return Records(schema.names, records)


def _check_parquet_size(path: Path, metadata: pq.FileMetaData, names: Collection[str]) -> None:
    """By the file's own account, before any of it is decompressed."""
    _check_rows(path, metadata.num_rows)
    columns = [place for place in range(metadata.num_columns) if metadata.schema.column(place).path in names]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = sum(group.column(place).total_uncompressed_size for group in groups for place in columns)
    if size > MAX_TABLE_BYTES:
        what = f"has {size:,} bytes in its columns, {MAX_TABLE_BYTES:,} are allowed"
        raise InvalidError("manifest-too-large", what, where=str(path))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    number = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
    if not (number or _is_text(inner)):
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


def _refuse(path: Path, line: int, what: str, fix: str, *, column: int = 1) -> NoReturn:
    raise InvalidError("manifest-format", what, where=f"{path}:{line}:{column}", fix=fix)
