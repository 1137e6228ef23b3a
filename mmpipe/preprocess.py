"""Raw samples → the features of their modalities, by the settings that a model was trained with; no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmpipe import files
from mmpipe.errors import SampleError
from mmpipe.features import audio, image, text
from mmpipe.media.text import check, decode
from mmpipe.row import JUDGED, BadRow, Row

MAX_BYTES = 100_000_000
Features = dict[str, NDArray[Any]]
"""{modality: its feature}, for those that the sample has and the model takes."""


@dataclass(frozen=True)
class Sample:
    """One raw sample: any of picture and recording (a file or its bytes) and text; None = absent."""

    image: bytes | Path | None = None
    text: str | None = None
    audio: bytes | Path | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a sample has no prediction; `code` is a key of `errors.FIXES`. `modality`: the one to blame."""

    code: str
    what: str
    modality: str | None = None


@dataclass(frozen=True)
class Preprocessor:
    """`settings`: {modality: keyword arguments of its extractor} for each that the model takes. Pickles.

    `judged`: ingest has accepted all that comes, by the limits of its parameters: none counts again. `needs`:
    modalities without which the model has no answer.
    """

    settings: dict[str, dict[str, Any]]
    tokenizer: str | None
    judged: bool = False
    needs: frozenset[str] = frozenset()

    def features(self, sample: Sample) -> Features | Refusal:
        """What the model takes of the sample; a Refusal for the first fault, or for what it `lacks`."""
        return self._features(partial(getattr, sample))

    def of_row(self, row: Row | BadRow) -> Features | Refusal:
        """The same of a manifest's row; nothing outside of the manifest's folder is read."""
        if isinstance(row, BadRow):
            return Refusal(row.code, row.what)
        return self._features(partial(_value, row))

    def _features(self, value_of: Callable[[str], bytes | Path | str | None]) -> Features | Refusal:
        """Modality by modality, as ingest judges them: the first fault is the same one."""
        found: Features = {}
        for modality in JUDGED:
            if modality not in self.settings:
                continue
            try:
                value = value_of(modality)
                feature = None if value is None else self.feature(modality, value)
            except SampleError as error:
                return Refusal(error.code, error.what, modality)
            if feature is not None and len(feature):
                found[modality] = feature
        return self.lacks(found) or found

    def lacks(self, found: Features) -> Refusal | None:
        """`row-empty` without anything that the model takes, `row-lacks` without what it needs."""
        if not found:
            return Refusal("row-empty", f"has none of {', '.join(sorted(self.settings))}")
        lacking = sorted(self.needs - found.keys())
        return Refusal("row-lacks", f"has no {' and no '.join(lacking)}") if lacking else None

    def feature(self, modality: str, value: Any) -> NDArray[Any]:
        """Of a file, its bytes or a text; of length 0 for blank text. Raises SampleError."""
        settings = self.settings[modality]
        if modality == "text":
            assert self.tokenizer is not None
            words = value if value.strip() else ""  # white space alone is no text
            own: dict[str, Any] = {key: settings.get(key) for key in ("max_tokens", "turns")}
            return text.encode([words if self.judged else check(words)], self.tokenizer, **own)[0]
        data = value if isinstance(value, bytes) else files.read_guarded(value, max_bytes=MAX_BYTES)
        extract = audio.extract if modality == "audio" else image.extract
        return extract(data, judged=self.judged, **settings)


def _value(row: Row, modality: str) -> Path | str | None:
    """The text behind its earlier turns, or a path; a text's file goes before its cell."""
    if modality != "text":
        name = getattr(row, modality)
        return None if name is None else row.path_of(name)
    words = row.text
    if row.text_path is not None:
        words = decode(files.read_guarded(row.path_of(row.text_path), max_bytes=MAX_BYTES))
    return None if words is None else row.dialogue(words)


def of_rows(
    rows: Sequence[tuple[int, Row | BadRow]], beat: Callable[[int], None], *, preprocessor: Preprocessor
) -> list[Features | Refusal]:
    """For `executors.run`: what `of_row` says of each numbered row, in order."""
    found = []
    for index, (_, row) in enumerate(rows):
        beat(index)
        found.append(preprocessor.of_row(row))
    return found
