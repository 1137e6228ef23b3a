"""What an interrupted `predict` had answered already: one small table a batch of rows, beside the output."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpipe import files, tables
from mmpipe.errors import MmpipeError, SampleError
from mmpipe.row import BadRow, Row


class Partway:
    """Answers to batches by one model, in a folder that goes when the output is complete.

    A batch counts only while its rows, and size and time of their files, are what they were.
    """

    def __init__(self, output: Path, schema: pa.Schema, model: str) -> None:
        self.folder = output.with_name(f".{output.name}.partway")
        self.schema = schema
        self._model = model

    def read(self, rows: Sequence[Row | BadRow]) -> pa.Table | None:
        """The answers to these rows; None where there are none, or damaged ones."""
        try:
            return tables.read(self._place(rows), self.schema)
        except MmpipeError:
            return None

    def write(self, rows: Sequence[Row | BadRow], answers: pa.Table) -> None:
        """Keep the answers to these rows."""
        tables.write(self._place(rows), answers)

    def clear(self) -> None:
        """The output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, rows: Sequence[Row | BadRow]) -> Path:
        told = files.canonical_json([self._model, *map(_identity, rows)])
        return self.folder / f"{files.sha256(told.encode('utf-8', 'surrogatepass'))}.parquet"


def _identity(row: Row | BadRow) -> list[Any]:
    if isinstance(row, BadRow):
        return [row.source, row.row, row.id, row.code, row.what]
    named = [_state(row, name) for name in (row.image, row.audio, row.text_path)]
    return [row.source, row.row, row.id, row.text, *named]


def _state(row: Row, name: str | None) -> list[Any] | None:
    """A file's name, size and time of change; only its name where it is not there or not to be read."""
    if name is None:
        return None
    try:
        status = row.path_of(name).stat()
    except (SampleError, OSError):
        return [name]
    return [name, status.st_size, status.st_mtime_ns]
