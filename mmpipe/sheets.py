"""CSV for people: plain for DVC and pandas, and harmless in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmpipe import files

Cell = str | int | float | None

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a whole CSV file atomically: UTF-8, LF; None is an empty cell.

    Text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV injection).
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_harmless(cell) for cell in header])
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    files.write_bytes(path, out.getvalue().encode())


def _harmless(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
