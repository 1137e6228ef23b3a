"""What differs, as lines for a terminal: short and aligned."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmpipe.compare.outline import Grid, sections, side

MOST_ROWS = 12
"""Of a table; `--json` and the page have all of them."""
WIDEST = 48
"""Characters of a cell."""


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Of what `difference.compare` found."""
    yield f"{side(found['old'])} → {side(found['new'])}"
    for section in sections(found):
        yield f"{section.title + ':':<13}{section.lead}"
        for grid in section.grids:
            yield from _grid(grid)


def _grid(grid: Grid) -> Iterator[str]:
    rows = [[_short(cell) for cell in row] for row in grid.rows[:MOST_ROWS]]
    table = [list(grid.columns), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(grid.columns))]
    if grid.caption:
        yield f"  {grid.caption}"
    for row in table:
        cells = [
            cell.rjust(width) if column >= grid.right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("    " + "  ".join(cells)).rstrip()
    if len(grid.rows) > MOST_ROWS:
        yield f"    … and {len(grid.rows) - MOST_ROWS:,} more"


def _short(cell: str) -> str:
    return cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…"
