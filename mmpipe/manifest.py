"""Which samples there are: rows of a CSV, JSONL or Parquet file, or files in one folder a class."""

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmpipe import class_folders, snapshot
from mmpipe.errors import InvalidError, NotFoundError, TemporaryError
from mmpipe.records import table
from mmpipe.records.record import Record
from mmpipe.row import BadRow, Row, cell
from mmpipe.schema import SPLITS

COLUMNS: dict[str, str | None] = {
    "id": "id",
    "image": "image",
    "text": "text",
    "text_path": None,
    "history": None,
    "audio": "audio",
    "target": "label",
    "group": None,
    "split": None,
}
"""Which column holds what, unless told otherwise; those named here may be absent, except the target."""
_MODALITY_KEYS = ("image", "text", "text_path", "audio")


@dataclass(frozen=True)
class Rows:
    """The rows of a manifest that was read through once: `len()` of them, and read again by each iteration.

    No row of a table is held; those of a class folder are, as they are sorted by name. Iterating raises
    TemporaryError `file-changed`, at the latest after the last row, where the file is not what it was.
    """

    count: int
    again: Callable[[], Iterator[Row | BadRow]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self.again()


def read(
    path: Path, columns: Mapping[str, str | None] = COLUMNS, *, lists: bool = False
) -> list[Row | BadRow]:
    """All rows in the file's order; those of a folder in the order of their names.

    `lists`: a target may be a list of labels, which becomes its JSON.

    Raises NotFoundError `manifest-missing`, InvalidError `manifest-format`, `manifest-columns` or
    `manifest-too-large`.
    """
    if path.is_dir():
        return class_folders.read(path)
    _check_is_file(path)
    found = table.read(path, _wanted(columns))
    present = _present(path, columns, found.columns) if found.records else {}
    return list(_rows(path, found.records, present, lists=lists))


def survey(path: Path, columns: Mapping[str, str | None] = COLUMNS) -> Rows:
    """The same rows, of which a table's are not held: it is read to its end here, and once more by who asks.

    Raises as `read` does, so that what is wrong with the manifest as a whole is known before any row is used.
    """
    if path.is_dir():
        rows = class_folders.read(path)
        return Rows(len(rows), lambda: iter(rows))
    _check_is_file(path)
    state = snapshot.state(path)
    seen = table.Pass(path, _wanted(columns))
    for _ in seen:
        pass
    present = _present(path, columns, seen.columns) if seen.count else {}

    def again() -> Iterator[Row | BadRow]:
        _check_state(path, state)
        yield from _rows(path, table.Pass(path, _wanted(columns)), present)
        _check_state(path, state)

    return Rows(seen.count, again)


def _wanted(columns: Mapping[str, str | None]) -> set[str]:
    return {name for name in columns.values() if name}


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise NotFoundError("manifest-missing", "does not exist", where=str(path))
    if not path.is_file():
        raise InvalidError("manifest-format", "is no regular file", where=str(path))


def _check_state(path: Path, state: snapshot.State | None) -> None:
    if snapshot.state(path) != state:
        fix = "run the same command again when nothing writes to it"
        raise TemporaryError("file-changed", "changed while it was read", where=str(path), fix=fix)


def _rows(
    path: Path, records: Iterable[Record], present: Mapping[str, str], *, lists: bool = False
) -> Iterator[Row | BadRow]:
    return (_row(path, number, record, present, lists) for number, record in enumerate(records, 1))


def read_all(source: Path, columns: Mapping[str, str | None] = COLUMNS) -> list[Row | BadRow]:
    """Rows of a table, of all tables that lie in a folder, or of a folder with a subfolder a class.

    Raises as `read` does.
    """
    found: list[Path] = []
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.suffix.lower() in table.FORMATS)
    return [row for one in found or [source] for row in read(one, columns)]


def _present(path: Path, columns: Mapping[str, str | None], names: Collection[str]) -> dict[str, str]:
    """Key → column, for the columns that are there. All problems are told at once."""
    present = {key: name for key, name in columns.items() if name in names and name is not None}
    problems = [
        f"no column {name!r} for {key}{_nearest(name, names)}"
        for key, name in columns.items()
        if name is not None and key not in present and (key == "target" or name != COLUMNS[key])
    ]
    if not any(key in present for key in _MODALITY_KEYS):
        problems.append(
            f"none of the columns {', '.join(repr(columns[k]) for k in _MODALITY_KEYS if columns.get(k))}"
        )
    if problems:
        listed = ", ".join(map(repr, names)) or "none"
        hint = " (are the cells separated by ';' or tabs? commas are needed)" if len(names) == 1 else ""
        what = f"has {'; '.join(problems)}; its columns are {listed}{hint}"
        raise InvalidError("manifest-columns", what, where=str(path))
    return present


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [other.lower() for other in names], n=1)
    return "".join(f", did you mean {other!r}?" for other in names if near and other.lower() == near[0])


def _row(path: Path, number: int, record: Record, present: Mapping[str, str], lists: bool) -> Row | BadRow:
    source = path.as_posix()
    name = f"{source}:{number}"
    if record.cells is None:
        words = record.fault if record.fault.startswith("line ") else f"line {record.line} {record.fault}"
        return BadRow(source, number, name, "row-malformed", words)
    try:
        values = {key: record.cells.get(column) for key, column in present.items()}
        if lists and isinstance(values.get("target"), list):
            values["target"] = json.dumps(values["target"], ensure_ascii=False)
        cells = {key: cell(key, value) for key, value in values.items()}
    except ValueError as error:
        return BadRow(source, number, name, "row-malformed", f"line {record.line} {error}")
    split = cells.get("split")
    if split is not None and split not in SPLITS:
        allowed = f"{', '.join(SPLITS)} are allowed{_nearest(split, SPLITS)}"
        what = f"line {record.line} has the split {split!r}; {allowed}"
        return BadRow(source, number, cells.get("id") or name, "row-malformed", what)
    return Row(source, number, path.parent, **(cells | {"id": cells.get("id") or name}))  # type: ignore[arg-type]
