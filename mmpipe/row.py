"""One sample as its manifest tells it, nothing of it opened yet; or a row that tells none."""

import json
import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mmpipe.answers import turns
from mmpipe.files import safe_join

JUDGED = ("image", "text", "audio")
"""The order in which a row's modalities are judged: the first fault is the row's."""


@dataclass(frozen=True)
class Row:
    """One sample. Paths are relative to `folder`.

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
    history: str | None = None
    """Earlier turns of the dialogue whose next question the text is, as `turns.read` takes them."""

    def dialogue(self, question: str) -> str:
        """The row's text, its earlier turns before it; white space alone is no question."""
        said = turns.read(self.history or "") if question.strip() else []
        return turns.join(said, question)

    def path_of(self, name: str) -> Path:
        """Where a file lies that the row names. Raises SampleError `path-escapes`, for `%2e%2e/` as well."""
        safe_join(self.folder, unquote(name))
        return safe_join(self.folder, name)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be told apart into cells, or has a cell that is not allowed."""

    source: str
    row: int
    id: str
    code: str
    what: str


def cell(key: str, value: Any) -> str | None:
    """A cell as text; None for an empty one.

    Raises ValueError for lists, objects, NUL in names, and turns that are none.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if key == "history":
        return _history(value)
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
    if "\0" in text or not is_unicode(text):
        raise ValueError(f"has NUL or lone surrogates in its {key}")
    return text


def _history(value: Any) -> str | None:
    """JSON text, or the list itself where the table has such; None without a turn."""
    said = turns.read(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return json.dumps(said, ensure_ascii=False) if said else None


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: it has no lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
