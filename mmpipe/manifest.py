"""Which samples there are: rows of a CSV, JSONL or Parquet file, or files in one folder a class."""

import difflib
import math
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from mmpipe import manifest_records
from mmpipe.errors import InvalidError, NotFoundError, SampleError
from mmpipe.files import safe_join
from mmpipe.media.sniff import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from mmpipe.schema import SPLITS

COLUMNS: dict[str, str | None] = {
    "id": "id",
    "image": "image",
    "text": "text",
    "text_path": None,
    "audio": "audio",
    "target": "label",
    "group": None,
    "split": None,
}
"""Which column holds what, unless told otherwise; those named here may be absent, except the target."""

_MODALITY_KEYS = ("image", "text", "text_path", "audio")
_TEXT_EXTENSIONS = (".txt",)
_OTHER_IMAGES = (".svg", ".heic", ".heif", ".avif", ".psd", ".exr", ".eps", ".jp2", ".jxl", ".ico")
_OTHER_AUDIO = (".m4a", ".aac", ".aiff", ".aif", ".wma", ".amr", ".au")
_EXTENSIONS = (
    {extension: "image" for group in IMAGE_EXTENSIONS.values() for extension in group}
    | {extension: "audio" for group in AUDIO_EXTENSIONS.values() for extension in group}
    | dict.fromkeys(_TEXT_EXTENSIONS, "text_path")
    | dict.fromkeys(_OTHER_IMAGES, "image")
    | dict.fromkeys(_OTHER_AUDIO, "audio")
)


@dataclass(frozen=True)
class Row:
    """One sample as its manifest tells it: nothing is opened yet. Paths are relative to `folder`.

    A cell that is empty or white space is None: the modality is missing, which is ordinary.
    """

    source: str
    """The manifest, relative to the workspace."""
    row: int
    """1 = the first row of data."""
    folder: Path
    id: str
    image: str | None = None
    text: str | None = None
    text_path: str | None = None
    audio: str | None = None
    target: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be told apart into cells, or has a cell that is not allowed."""

    source: str
    row: int
    id: str
    code: str
    what: str


def read(path: Path, columns: Mapping[str, str | None] = COLUMNS) -> list[Row | BadRow]:
    """All rows in the file's order; those of a folder in the order of their names.

    Raises NotFoundError `manifest-missing`, InvalidError `manifest-format`, `manifest-columns` or
    `manifest-too-large`.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise NotFoundError("manifest-missing", "does not exist", where=str(path))
    if not path.is_file():
        raise InvalidError("manifest-format", "is no regular file", where=str(path))
    found = manifest_records.read(path, {name for name in columns.values() if name})
    if not found.records:
        return []
    present = _present(path, columns, found.columns)
    return [_row(path, number, record, present) for number, record in enumerate(found.records, 1)]


def read_all(source: Path, columns: Mapping[str, str | None] = COLUMNS) -> list[Row | BadRow]:
    """Rows of a table, of all tables that lie in a folder, or of a folder with a subfolder a class.

    Raises as `read` does.
    """
    tables = []
    if source.is_dir():
        tables = sorted(path for path in source.iterdir() if path.suffix.lower() in manifest_records.SUFFIXES)
    return [row for one in tables or [source] for row in read(one, columns)]


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


def _row(
    path: Path, number: int, record: manifest_records.Record, present: Mapping[str, str]
) -> Row | BadRow:
    source = path.as_posix()
    name = f"{source}:{number}"
    if record.cells is None:
        words = record.fault if record.fault.startswith("line ") else f"line {record.line} {record.fault}"
        return BadRow(source, number, name, "row-malformed", words)
    try:
        cells = {key: _cell(key, record.cells.get(column)) for key, column in present.items()}
    except ValueError as error:
        return BadRow(source, number, name, "row-malformed", f"line {record.line} {error}")
    split = cells.get("split")
    if split is not None and split not in SPLITS:
        allowed = f"{', '.join(SPLITS)} are allowed{_nearest(split, SPLITS)}"
        what = f"line {record.line} has the split {split!r}; {allowed}"
        return BadRow(source, number, cells.get("id") or name, "row-malformed", what)
    return Row(source, number, path.parent, **(cells | {"id": cells.get("id") or name}))  # type: ignore[arg-type]


def _cell(key: str, value: Any) -> str | None:
    """A cell as text; None for an empty one. Raises ValueError for lists, objects, NUL in names."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"has a {type(value).__name__} for {key}, not a text or number")
    text = str(value)
    if not text.strip():
        return None
    if key == "text":
        return text
    return _name(key, unicodedata.normalize("NFC", text.strip()) if key == "target" else text.strip())


def _name(key: str, text: str) -> str:
    if "\0" in text or not _is_unicode(text):
        raise ValueError(f"has NUL or lone surrogates in its {key}")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_folder(folder: Path) -> list[Row | BadRow]:
    """`folder/class/name.png`, `.txt` and `.wav` → one row, with id `class/name`; hidden files are none.

    A file that is no part of a sample is a row of its own, and so is a link to a folder: none is followed.
    """
    source = folder.as_posix()
    rows: dict[tuple[str, bool], Row | BadRow] = {}  # by name and whether that is a sample's
    for file in sorted(_listed(folder)):
        fault = _fault_of_name(folder, file)
        name = (file if fault else file.with_suffix("")).as_posix()
        known = rows.get((name, not fault))
        number = known.row if known else len(rows) + 1
        if fault:
            rows[name, False] = BadRow(source, number, _shown(file), *fault)
        elif not isinstance(known, BadRow):
            target = _cell("target", file.parts[0])
            rows[name, True] = _with_file(known or Row(source, number, folder, name, target=target), file)
    return list(rows.values())


def _listed(folder: Path) -> Iterator[Path]:
    """Files below a folder, relative to it, and links to folders. An OSError ends it: no row gets lost."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            if not name.startswith("."):
                yield Path(parent, name).relative_to(folder)


def _raise(error: OSError) -> NoReturn:
    raise error


def _fault_of_name(folder: Path, file: Path) -> tuple[str, str] | None:
    """Code and words where a file's name says that it is no part of a sample."""
    if not _is_unicode(file.as_posix()):
        return "row-malformed", "its name is not UTF-8"
    if (folder / file).is_dir():
        try:
            safe_join(folder, file.as_posix())
        except SampleError as error:
            return error.code, error.what
        return "file-not-regular", f"{file.as_posix()!r} is a link to a folder, and none is followed"
    if len(file.parts) < 2:
        return "row-no-target", "lies in no class folder"
    if file.suffix.lower() not in _EXTENSIONS:
        return "file-unknown", f"{file.as_posix()!r} has an extension that tells no modality"
    return None


def _with_file(row: Row, file: Path) -> Row | BadRow:
    """The row with one more file, or what is wrong where it has one of that modality."""
    key, name = _EXTENSIONS[file.suffix.lower()], file.as_posix()
    if getattr(row, key) is not None:
        what = f"{getattr(row, key)!r} and {name!r} are the same modality of one sample"
        return BadRow(row.source, row.row, row.id, "row-ambiguous", what)
    return replace(row, **{key: name})  # type: ignore[arg-type]


def _shown(file: Path) -> str:
    """A name as an id: bytes that are not UTF-8 are written as `\\xe9`."""
    return os.fsencode(file.as_posix()).decode("utf-8", "backslashreplace")
