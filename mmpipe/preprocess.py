"""Raw samples → the features of their modalities, by the settings that a model was trained with; no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmpipe import files
from mmpipe.errors import SampleError
from mmpipe.features import audio, image, text
from mmpipe.manifest import BadRow, Row
from mmpipe.media.text import check, decode

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
    """`settings`: {modality: keyword arguments of its extractor} for each that the model takes. Pickles."""

    settings: dict[str, dict[str, Any]]
    tokenizer: str | None

    def features(self, sample: Sample) -> Features | Refusal:
        """What the model takes of the sample; a Refusal for the first fault, `row-empty` if nothing is."""
        found: Features = {}
        for modality in sorted(self.settings):
            if (value := getattr(sample, modality)) is None:
                continue
            try:
                feature = self.feature(modality, value)
            except SampleError as error:
                return Refusal(error.code, error.what, modality)
            if len(feature):
                found[modality] = feature
        return found or Refusal("row-empty", f"has none of {', '.join(sorted(self.settings))}")

    def of_row(self, row: Row | BadRow) -> Features | Refusal:
        """The same of a manifest's row; nothing outside of the manifest's folder is read."""
        if isinstance(row, BadRow):
            return Refusal(row.code, row.what)
        places = {m: getattr(row, m) for m in ("audio", "image") if m in self.settings}
        try:
            found = {m: files.safe_join(row.folder, name) for m, name in places.items() if name is not None}
            sample = Sample(text=row.text, **found)
            if row.text_path is not None and "text" in self.settings:
                data = files.read_guarded(files.safe_join(row.folder, row.text_path), max_bytes=MAX_BYTES)
                sample = replace(sample, text=decode(data))
        except SampleError as error:
            return Refusal(error.code, error.what)
        return self.features(sample)

    def feature(self, modality: str, value: Any) -> NDArray[Any]:
        """Of a file, its bytes or a text; of length 0 for blank text. Raises SampleError."""
        settings = self.settings[modality]
        if modality == "text":
            assert self.tokenizer is not None
            words = check(value) if value.strip() else ""  # white space alone is no text
            return text.encode([words], self.tokenizer, max_tokens=settings["max_tokens"])[0]
        data = value if isinstance(value, bytes) else files.read_guarded(value, max_bytes=MAX_BYTES)
        return audio.extract(data, **settings) if modality == "audio" else image.extract(data, **settings)


def of_rows(
    rows: Sequence[tuple[int, Row | BadRow]], beat: Callable[[int], None], *, preprocessor: Preprocessor
) -> list[Features | Refusal]:
    """For `executors.run`: what `of_row` says of each numbered row, in order."""
    found = []
    for index, (_, row) in enumerate(rows):
        beat(index)
        found.append(preprocessor.of_row(row))
    return found
