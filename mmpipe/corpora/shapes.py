"""A small generated corpus: drawn shapes, sentences, tones. Each modality tells a part of the class only.

A class is a shape and a pitch ("low circle"). The picture shows the shape, the tone has the pitch, and the
sentence names one of the two, so that no single modality can tell the class and all together can.
"""

import csv
import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmpipe.media import image

SHAPES = ("circle", "square", "triangle")
PITCHES = {"low": (200.0, 300.0), "high": (500.0, 750.0)}
"""Range of the tone's frequency, Hz."""
LABELS = tuple(f"{pitch} {shape}" for pitch in PITCHES for shape in SHAPES)

_SIDE = 96
_SAMPLE_RATE = 16_000
_DURATION_S = 0.6
_MISSING = 0.08
"""Share of the samples that lack a given modality."""
_WHO = ("a child", "my uncle", "the teacher", "nobody", "a sailor", "our neighbour", "the cook", "a clerk")
_WHEN = ("today", "at noon", "last week", "in winter", "before dinner", "by chance", "on Monday", "long ago")
_WHERE = ("on paper", "in the sand", "on a wall", "at school", "under a bridge", "by the sea", "on a plate")
_NAMES = {
    "circle": "round shape",
    "square": "box",
    "triangle": "wedge",
    "low": "deep hum",
    "high": "shrill beep",
}


def write(folder: Path, *, n: int = 240, seed: int = 0) -> int:
    """Write manifest.csv, images/ and audio/ below an existing folder; returns the number of samples.

    Sample i depends on (seed, i) alone. PNG and JPEG, WAV and FLAC take turns.
    """
    for name in ("images", "audio"):
        (folder / name).mkdir()
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "image", "text", "audio", "label"])
        for index in range(n):
            table.writerow(_write_sample(folder, index, np.random.default_rng([seed, index])))
    return n


def _write_sample(folder: Path, index: int, rng: np.random.Generator) -> list[str]:
    label = LABELS[index % len(LABELS)]
    pitch, shape = label.split(" ")
    name = f"shape-{index:04d}"
    picture = f"images/{name}{('.png', '.jpg')[index % 2]}"
    tone = f"audio/{name}{('.wav', '.flac')[index // 2 % 2]}"
    sentence = _sentence(pitch, shape, rng)
    lacking = rng.random(3) < _MISSING
    lacking[int(rng.integers(3))] = False
    if not lacking[0]:
        (folder / picture).write_bytes(image.encode(_drawing(shape, rng), picture[-4:]))
    if not lacking[2]:
        kind = "WAV" if tone.endswith(".wav") else "FLAC"
        (folder / tone).write_bytes(_encoded(_tone(pitch, rng), kind))
    cells = ["" if gone else cell for cell, gone in zip((picture, sentence, tone), lacking, strict=True)]
    return [name, *cells, label]


def _sentence(pitch: str, shape: str, rng: np.random.Generator) -> str:
    told = _NAMES[(pitch, shape)[int(rng.integers(2))]]
    who, when, where = (str(rng.choice(words)) for words in (_WHO, _WHEN, _WHERE))
    return f"{who.capitalize()} noticed a {told} {where} {when}, {int(rng.integers(2, 100))} times."


def _drawing(shape: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (96, 96, 3): a shape with soft edges on a cloudy background."""
    clouds = rng.uniform(120, 255, (4, 4, 3))
    background = np.kron(clouds, np.ones((_SIDE // 4, _SIDE // 4, 1)))
    y, x = np.mgrid[:_SIDE, :_SIDE] - rng.uniform(36, 60, 2)[:, None, None]
    angle = rng.uniform(-0.3, 0.3)
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    inside = np.clip(rng.uniform(16, 30) - _distance(shape, x, y), 0, 1)[..., None]
    pixels = background * (1 - inside) + rng.uniform(0, 110, 3) * inside + rng.normal(0, 6, (_SIDE, _SIDE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _distance(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """How large the shape around the origin must be to reach a point, px."""
    reach: NDArray[np.float64] = np.maximum(abs(x), abs(y))
    if shape == "circle":
        reach = np.hypot(x, y)
    elif shape == "triangle":
        reach = np.maximum(y, abs(x) * np.sqrt(3) / 2 - y / 2)
    return reach


def _tone(pitch: str, rng: np.random.Generator) -> NDArray[np.float64]:
    time = np.arange(int(_SAMPLE_RATE * _DURATION_S)) / _SAMPLE_RATE
    wave = np.sin(2 * np.pi * (rng.uniform(*PITCHES[pitch]) * time + rng.random()))
    return np.clip(rng.uniform(0.2, 0.6) * wave + rng.normal(0, 0.05, len(time)), -1, 1)


def _encoded(samples: NDArray[np.float64], kind: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, _SAMPLE_RATE, format=kind, subtype="PCM_16")
    return buffer.getvalue()
