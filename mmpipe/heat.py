"""What a sample's parts add to its answer, drawn: red speaks for it, blue against it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmpipe.media import image

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
FOR, AGAINST = np.array([196.0, 32.0, 24.0]), np.array([28.0, 84.0, 190.0])
SIDE, WIDE, HIGH = 224, 320, 128
"""Pixels of a picture; the most columns and the rows of a recording."""
TOP, STRONG = 99.5, 0.85
"""Percentile of a map that has the full colour, and how much of it."""


class Found(Protocol):
    """As `saliency.Saliency`, which loads torch."""

    @property
    def maps(self) -> Mapping[str, Floats]:
        """{modality: what each part adds}."""

    @property
    def score(self) -> float:
        """The output of the answer."""

    @property
    def baseline(self) -> float:
        """That of the baseline."""


@dataclass(frozen=True)
class Word:
    """A piece of a text and the CSS colour behind it."""

    piece: str
    colour: str
    adds: float


@dataclass(frozen=True)
class Part:
    """A modality of a sample: `adds`, the sum of its map; a `picture` as a data URI, or words."""

    modality: str
    adds: float
    picture: str | None
    words: list[Word]


@dataclass(frozen=True)
class Shown:
    """A sample on a page. `said`: of it; `score`: the output of that, `baseline`: where nothing is told."""

    id: str
    said: str
    score: float
    baseline: float
    parts: list[Part]


def shown(
    name: str, said: str, found: Found, features: Mapping[str, NDArray[Any]], pieces: Sequence[str]
) -> Shown:
    """A sample's saliency as a page has it. `pieces`: the text's tokens, in order."""
    parts = [
        Part(
            m,
            float(values.sum()),
            None if m == "text" else _uri(_drawn(m, values, features[m])),
            words(values, pieces) if m == "text" else [],
        )
        for m, values in sorted(found.maps.items())
    ]
    return Shown(name, said, found.score, found.baseline, parts)


def words(values: Floats, pieces: Sequence[str]) -> list[Word]:
    """Tokens with a colour each."""
    return [
        Word(piece, _css(strength), float(value))
        for piece, strength, value in zip(pieces, strengths(values).tolist(), values, strict=True)
    ]


def strengths(values: Floats) -> Floats:
    """-1 … 1 of the same shape; the strongest half percent have the full colour."""
    scale = float(np.percentile(np.abs(values), TOP)) if values.size else 0.0
    return np.clip(values / scale, -1, 1) if scale > 0 else np.zeros_like(values)


def over(values: Floats, under: Floats) -> Pixels:
    """(H, W) of colours over (H, W) of grey, 0 … 255 → RGB (H, W, 3)."""
    strength = strengths(values)[:, :, None]
    colour = np.where(strength > 0, FOR, AGAINST)
    grey = np.repeat(160 + under[:, :, None] * 95 / 255, 3, axis=2)  # pale, so that the colours are seen
    share = STRONG * np.abs(strength)
    return np.asarray((1 - share) * grey + share * colour).round().astype(np.uint8)


def _drawn(modality: str, values: Floats, feature: NDArray[Any]) -> Pixels:
    if modality == "image":
        return _larger(over(values, feature.astype(np.float64).mean(axis=2)))
    if values.ndim == 1:  # a wave: what its stretches add
        columns = min(WIDE, len(values))
        sums = np.array([part.sum() for part in np.array_split(values, columns)])
        return np.repeat(over(sums[None], np.full((1, columns), 255.0)), HIGH // 4, axis=0)
    level = feature.astype(np.float64)
    low, high = level.min(), level.max()
    under = 255 * (1 - (level - low) / max(high - low, 1e-9))  # loud is dark
    return _larger(over(values.T[::-1], under.T[::-1]))


def _larger(pixels: Pixels) -> Pixels:
    """Each value a square of whole pixels, as large as fits."""
    factor = max(1, SIDE // max(pixels.shape[:2]))
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def _uri(pixels: Pixels) -> str:
    return f"data:image/png;base64,{base64.b64encode(image.encode(pixels, '.png')).decode('ascii')}"


def _css(strength: float) -> str:
    red, green, blue = (int(value) for value in (FOR if strength > 0 else AGAINST))
    return f"rgba({red}, {green}, {blue}, {STRONG * abs(strength) * 0.7:.3f})"
