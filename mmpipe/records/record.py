"""One record of a table, its cells or what is wrong with it, and how large a table may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mmpipe.errors import InvalidError

MAX_LINE_BYTES = 4 << 20
"""A longer line of CSV or JSONL is a bad row, and so are lines of CSV that are together a longer row."""
MAX_CELL_CHARS = 1 << 20
"""Longest field of CSV and cell of Parquet: also how far an unclosed quote can reach before it is noticed."""
MAX_ROWS = 1_000_000
"""Of one table: held all at once, about 1 GB. A Parquet file of 16 KB can have millions of equal rows."""
MAX_TABLE_BYTES = 1 << 29
"""Of the wanted columns of a Parquet file, uncompressed; a text that the file holds once counts once."""


@dataclass(frozen=True)
class Record:
    """`line` is where it starts, counted from 1; `cells` is None where `fault` says what is wrong."""

    line: int
    cells: Mapping[str, Any] | None
    fault: str = ""
    column: int = 1
    """Of the fault, where that is known."""


def check_rows(path: Path, rows: int) -> None:
    """Raise InvalidError `manifest-too-large` past `MAX_ROWS`."""
    if rows > MAX_ROWS:
        what = f"has more rows than the {MAX_ROWS:,} that are allowed"
        raise InvalidError("manifest-too-large", what, where=str(path))


def refuse(path: Path, line: int, what: str, fix: str, *, column: int = 1) -> NoReturn:
    """Raise InvalidError `manifest-format`: the file as a whole is not what its name says."""
    raise InvalidError("manifest-format", what, where=f"{path}:{line}:{column}", fix=fix)
