"""Files in one folder a class → rows: files of one name are one sample, its class is the folder."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mmpipe.errors import SampleError
from mmpipe.files import safe_join
from mmpipe.media.sniff import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from mmpipe.row import BadRow, Row, cell, is_unicode

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


def read(folder: Path) -> list[Row | BadRow]:
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
            target = cell("target", file.parts[0])
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
    if not is_unicode(file.as_posix()):
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
