"""The records of a CSV file, by its header: a line that is no CSV is one bad record."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mmpipe.records.lines import AS_UTF8, Lines, RecordTooLongError
from mmpipe.records.record import MAX_CELL_CHARS, Record, refuse


def records(path: Path, _wanted: Collection[str], columns: list[str]) -> Iterator[Record]:
    """All records with all their cells; the header's names are added to `columns` before the first.

    Raises InvalidError `manifest-format`.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    with path.open("rb") as file:
        lines = Lines(path, file)
        reader = csv.reader(lines, strict=True)
        columns += _header(path, lines, reader)
        yield from _records(lines, reader, columns)


def _header(path: Path, lines: Lines, reader: Any) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except (csv.Error, RecordTooLongError) as error:
        refuse(path, 1, f"is no CSV ({error})", "give a header line, commas between cells and line ends")
    for line, words in lines.bad.items():
        refuse(path, line, f"{words}: this is the header", AS_UTF8)
    if header and header[0].startswith("{"):
        refuse(path, 1, "is named .csv but holds JSON", "rename it to .jsonl, with one object a line")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        refuse(path, 1, f"has two columns named {twice[0]!r}", "give each column its own name")
    return header


def _records(lines: Lines, reader: Any, header: list[str]) -> Iterator[Record]:
    while True:
        start = lines.number + 1
        lines.begin()
        try:
            cells = next(reader, None)
        except (csv.Error, RecordTooLongError) as error:
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
