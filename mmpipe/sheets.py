"""CSV for people: plain for DVC and pandas, and harmless in a spreadsheet."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmpipe import files

Cell = str | int | float | None

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a CSV file atomically, row by row as they come: UTF-8, LF; None is an empty cell.

    Text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV injection).
    """
    with files.atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_harmless(cell) for cell in header])
        writer.writerows([_harmless(cell) for cell in row] for row in rows)


def _harmless(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
