"""Manifests written by hand, and which of their rows are good."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mmpipe import manifest
from mmpipe.errors import MmpipeError
from mmpipe.row import BadRow, Row

HEADER = "id,image,text,audio,label\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, columns: Mapping[str, str | None] = manifest.COLUMNS) -> list[Row | BadRow]:
    """All rows at once, which are those that come one after another; or the error, which is the same."""
    try:
        found = manifest.read(path, columns)
    except MmpipeError as error:
        with pytest.raises(type(error)) as raised:
            manifest.survey(path, columns)
        assert str(raised.value) == str(error)
        raise
    rows = manifest.survey(path, columns)
    assert list(rows) == list(rows) == found and len(rows) == len(found)
    return found


def bad(rows) -> list[tuple[int, str, str]]:
    """Row, code and words of each bad one."""
    return [(row.row, row.code, row.what) for row in rows if isinstance(row, BadRow)]


def good(rows) -> list[Row]:
    return [row for row in rows if isinstance(row, Row)]
