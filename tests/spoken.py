"""Recordings whose letters can be heard: a tone each, a pause for a space."""

import csv
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 8_000
TONES = {"a": 350.0, "b": 600.0, "c": 1_000.0, "d": 1_700.0, "e": 2_900.0, " ": 0.0}
AUDIO = {"sample_rate": SAMPLE_RATE, "n_fft": 256, "hop_length": 80, "n_mels": 16, "max_duration_s": 4.0}


def say(text: str, rng: np.random.Generator) -> np.ndarray:
    """float (samples,): 0.14 s a letter, of which 0.04 s are silent, with some noise."""
    parts = []
    for letter in text:
        tone = np.sin(2 * np.pi * TONES[letter] * np.arange(int(0.1 * SAMPLE_RATE)) / SAMPLE_RATE)
        parts += [0.4 * tone * rng.uniform(0.6, 1), np.zeros(int(0.04 * SAMPLE_RATE))]
    wave = np.concatenate(parts)
    return wave + rng.normal(0, 0.003, len(wave))


def texts(n: int, rng: np.random.Generator) -> list[str]:
    """One or two words of two to four letters, the vowels apart."""
    found = []
    for _ in range(n):
        words = [
            "".join(rng.choice(list("ae" if (place + turn) % 2 else "bcd")) for place in range(size))
            for turn, size in enumerate(rng.integers(2, 5, rng.integers(1, 3)))
        ]
        found.append(" ".join(words))
    return found


def write(raw: Path, *, n: int = 60, seed: int = 0) -> list[dict[str, str]]:
    """`raw/manifest.csv` and recordings; some rows lack the recording, some the expected words."""
    rng = np.random.default_rng(seed)
    raw.mkdir(parents=True)
    said = texts(n, rng)
    known = sorted({word for text in said for word in text.split()})
    rows = []
    for number, text in enumerate(said):
        name = f"s{number:03d}"
        soundfile.write(raw / f"{name}.wav", say(text, rng), SAMPLE_RATE)
        expected = sorted({*text.split(), *rng.choice(known, 5)})
        rows.append(
            {
                "id": name,
                "audio": "" if number % 20 == 7 else f"{name}.wav",
                "words": "" if number % 10 == 3 else " ".join(expected),
                "said": text.capitalize() + ".",
            }
        )
    with (raw / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows
