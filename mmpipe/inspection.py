"""One row's files, read once and judged: facts for the table of samples, or the fault of the row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmpipe.errors import SampleError
from mmpipe.files import read_guarded, sha256
from mmpipe.media import audio, image, sniff, text
from mmpipe.media.phash import phash
from mmpipe.row import JUDGED, Row

_PHASH_SIDE = 64


@dataclass(frozen=True)
class Limits:
    """What one sample may cost."""

    max_file_bytes: int = 100_000_000
    max_pixels: int = image.MAX_PIXELS
    max_duration_s: float = audio.MAX_DURATION_S
    max_text_chars: int = text.MAX_CHARS
    allow_truncated_audio: bool = False


@dataclass(frozen=True)
class Fault:
    """Why a row is put aside; `sha256` of the file, where it could be read."""

    modality: str | None
    code: str
    what: str
    sha256: str | None = None


Facts = dict[str, Any]
"""Values for columns of `schema.SAMPLES`: those of the modalities that the row has, and `warnings`."""


def inspect_rows(rows: Sequence[Row], beat: Callable[[int], None], *, limits: Limits) -> list[Facts | Fault]:
    """For `executors.run`: what `inspect` says of each row, in order."""
    found = []
    for index, row in enumerate(rows):
        beat(index)
        found.append(inspect(row, limits))
    return found


def inspect(row: Row, limits: Limits) -> Facts | Fault:
    """Read and decode what the row names. The first fault counts, in the order of `row.JUDGED`."""
    looks = {"image": _image, "text": _text, "audio": _audio}
    facts: Facts = {"warnings": []}
    for modality in JUDGED:
        seen: list[str] = []
        try:
            found = looks[modality](row, limits, seen)
        except SampleError as error:
            return Fault(modality, error.code, error.what, seen[0] if seen else None)
        facts["warnings"] += found.pop("warnings", [])
        facts |= found
    return facts


def _read(row: Row, name: str, limits: Limits, seen: list[str]) -> bytes:
    """The file's bytes; their hash is noted in `seen` for a fault found later."""
    data = read_guarded(row.path_of(name), max_bytes=limits.max_file_bytes)
    seen.append(sha256(data))
    return data


def _image(row: Row, limits: Limits, seen: list[str]) -> Facts:
    if row.image is None:
        return {}
    data = _read(row, row.image, limits, seen)
    header = image.header(data, max_pixels=limits.max_pixels)
    pixels = image.decode(data, max_pixels=limits.max_pixels, at_least=_PHASH_SIDE)
    width, height = header.shown
    warning = sniff.extension_warning("image", row.image, header.format)
    return {
        "image_path": (row.folder / row.image).as_posix(),
        "image_sha256": seen[0],
        "image_width": width,
        "image_height": height,
        "image_phash": phash(pixels),
        "warnings": [warning] if warning else [],
    }


def _text(row: Row, limits: Limits, seen: list[str]) -> Facts:
    words = row.text
    if row.text_path is not None:
        words = text.decode(_read(row, row.text_path, limits, seen), max_chars=limits.max_text_chars)
    if words is None or not words.strip():
        return {}
    words = row.dialogue(words)
    text.check(words, max_chars=limits.max_text_chars)
    return {"text": words, "text_sha256": sha256(words.encode()), "warnings": text.warnings(words)}


def _audio(row: Row, limits: Limits, seen: list[str]) -> Facts:
    if row.audio is None:
        return {}
    data = _read(row, row.audio, limits, seen)
    facts = audio.inspect(
        data, max_duration_s=limits.max_duration_s, allow_truncated=limits.allow_truncated_audio
    )
    warning = sniff.extension_warning("audio", row.audio, facts.format)
    return {
        "audio_path": (row.folder / row.audio).as_posix(),
        "audio_sha256": seen[0],
        "audio_duration_s": facts.duration_s,
        "audio_sample_rate": facts.sample_rate,
        "warnings": ([warning] if warning else []) + facts.warnings,
    }
