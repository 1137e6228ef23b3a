"""The records of a Parquet file, a few at a time, whatever its row groups and dictionaries are."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmpipe.errors import InvalidError
from mmpipe.records.record import MAX_CELL_CHARS, MAX_TABLE_BYTES, Record, check_rows

BATCH_ROWS = 1_024
"""Read at once, or fewer:"""
BATCH_BYTES = 16 << 20
"""of the cells read at once, as far as the file tells before they are read."""


def records(path: Path, wanted: Collection[str], columns: list[str]) -> Iterator[Record]:
    """All records with their cells of the `wanted` columns; the names of all are added to `columns` first.

    Raises InvalidError `manifest-format`, `manifest-columns` for a column that is neither text nor number,
    `manifest-too-large`.
    """
    try:
        with _opened(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            names = [name for name in schema.names if name in wanted]
            for name in names:
                _check_type(path, name, schema.field(name).type)
            _check_size(path, metadata, names)
            columns += schema.names
            if not names:
                yield from (Record(row, {}) for row in range(1, metadata.num_rows + 1))
                return
            row = 0
            for batch in file.iter_batches(_batch_rows(path, schema, metadata, names), columns=names):
                for cells in zip(*map(_cells, batch.columns), strict=True):
                    row += 1
                    yield _record(row, dict(zip(batch.schema.names, cells, strict=True)))
    except (OSError, pa.ArrowException) as error:
        raise InvalidError("manifest-format", f"is no readable Parquet ({error})", where=str(path)) from None


def _opened(path: Path, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """Page by page: neither a whole row group nor a whole column of one is read at once."""
    return pq.ParquetFile(
        path,
        read_dictionary=list(dictionaries),
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=1 << 20,
    )


def _check_size(path: Path, metadata: pq.FileMetaData, names: Collection[str]) -> None:
    """By the file's own account, before any of it is decompressed."""
    check_rows(path, metadata.num_rows)
    size = sum(chunk.total_uncompressed_size for _, chunk in _chunks(metadata, names))
    if size > MAX_TABLE_BYTES:
        what = f"has {size:,} bytes in its columns, {MAX_TABLE_BYTES:,} are allowed"
        raise InvalidError("manifest-too-large", what, where=str(path))


def _chunks(
    metadata: pq.FileMetaData, names: Collection[str]
) -> Iterator[tuple[int, pq.ColumnChunkMetaData]]:
    """The columns of each row group, with its number."""
    places = [place for place in range(metadata.num_columns) if metadata.schema.column(place).path in names]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        yield from ((number, group.column(place)) for place in places)


def _batch_rows(path: Path, schema: pa.Schema, metadata: pq.FileMetaData, names: Sequence[str]) -> int:
    """So many rows that their cells stay within `BATCH_BYTES`, even if each is the longest text there is.

    A text that the file holds once, in a dictionary or as the prefix of others, can be in every row.
    """
    texts = {name for name in names if _is_text(_inner(schema.field(name).type))}
    longest, size = dict.fromkeys(texts, 0), 0
    for number, chunk in _chunks(metadata, names):
        name, bytes_ = chunk.path_in_schema, chunk.total_uncompressed_size
        size += bytes_
        if name in texts and bytes_ * BATCH_ROWS > BATCH_BYTES:
            shared = "DELTA_BYTE_ARRAY" in chunk.encodings
            found = bytes_ if shared else _longest(path, number, name) if chunk.has_dictionary_page else 0
            longest[name] = max(longest[name], found)
    widest: int = max(sum(longest.values()), size // max(metadata.num_rows, 1), 1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // widest))


def _longest(path: Path, group: int, name: str) -> int:
    """Bytes of the longest text in the dictionary of a row group's column, of which one row is read."""
    with _opened(path, [name]) as file:
        for batch in file.iter_batches(1, row_groups=[group], columns=[name]):
            return int(pc.max(pc.binary_length(batch.column(0).dictionary)).as_py() or 0)
    return 0


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    inner = _inner(kind)
    number = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
    if not (number or _is_text(inner)):
        what = f"column {name!r} is of type {kind}; text and numbers are allowed"
        raise InvalidError("manifest-columns", what, where=str(path))


def _cells(column: pa.Array) -> list[Any]:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return list(plain.to_pylist())


def _record(row: int, cells: dict[str, Any]) -> Record:
    for name, cell in cells.items():
        if isinstance(cell, str) and len(cell) > MAX_CELL_CHARS:
            return Record(row, None, f"has {len(cell):,} characters in {name!r}")
    return Record(row, cells)
