"""Parquet in and out: schema checked, page checksums, fixed writer options; same rows → same bytes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmpipe.errors import InvalidError, NotFoundError, VerificationError
from mmpipe.files import atomic_path

PART_ROWS = 8_192
"""Rows that `write_parts` gathers for a row group."""
_OPTIONS: dict[str, Any] = {
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
    "data_page_size": 1 << 20,
    "store_schema": True,
}


def write(path: Path, table: pa.Table, *, compression: str = "zstd") -> None:
    """Write one Parquet file atomically. Use lz4 for pixels and spectrograms, zstd for the rest."""
    with atomic_path(path) as temporary:
        options = {**_OPTIONS, "compression": compression, "row_group_size": 65_536}
        pq.write_table(table.combine_chunks(), temporary, **options)


def write_parts(path: Path, parts: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables one after another as one, atomically; some thousand rows are held, never all."""
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", **_OPTIONS) as file,
    ):
        held = schema.empty_table()
        for part in parts:
            held = pa.concat_tables([held, part])
            if len(held) >= PART_ROWS:
                file.write_table(held.combine_chunks())
                held = schema.empty_table()
        if len(held):
            file.write_table(held.combine_chunks())


def write_rows(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Write a list of dicts in the given order."""
    write(path, pa.Table.from_pylist(list(rows), schema=schema))


def read(path: Path, schema: pa.Schema | None = None, *, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file, verifying its page checksums and, if given, its schema.

    Raises NotFoundError, VerificationError (`table-schema` damaged) or InvalidError (other columns).
    """
    if not path.is_file():
        raise NotFoundError("table-schema", "does not exist", where=str(path), fix="run `dvc repro`")
    return _load(path, str(path), schema, columns)


def parse(data: bytes, where: str, schema: pa.Schema | None = None) -> pa.Table:
    """The table of a file's bytes, verified as `read` does. `where` names the file in errors."""
    return _load(pa.BufferReader(data), where, schema, None)


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read one small Parquet file as a list of dicts."""
    rows: list[dict[str, Any]] = read(path, schema).to_pylist()
    return rows


def shards(folder: Path) -> list[Path]:
    """The Parquet files of a sharded table, in order."""
    found = sorted(folder.glob("part-*.parquet"))
    if not found:
        raise NotFoundError("table-schema", "holds no shards", where=str(folder), fix="run `dvc repro`")
    return found


def read_shards(folder: Path) -> Iterator[pa.Table]:
    """The tables of a sharded table, in order, one in memory at a time."""
    for path in shards(folder):
        yield read(path)


def _load(source: Any, where: str, schema: pa.Schema | None, columns: list[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            table = file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise VerificationError("table-schema", f"is damaged ({error})", where=where) from error
    if schema is not None and columns is None and not table.schema.equals(schema):
        raise InvalidError("table-schema", "has other columns than this version expects", where=where)
    return table
