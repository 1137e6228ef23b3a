"""A folder of good files with one of each bad kind among them, and what each is to get.

python tests/bad_folder.py DIR      # then: mmpipe init my --from DIR/rows.csv
"""

import csv
import os
import struct
import sys
from pathlib import Path

import numpy as np
from media import png, wav

GOOD = 40
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"


def float_wav(samples: np.ndarray) -> bytes:
    """A mono WAV of 32-bit floats at 16 kHz."""
    data = samples.astype("<f4").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


PNG = png(40, 30, seed=1000)
WAV = wav(seconds=0.2, seed=1000)
BOMB = PNG[:16] + struct.pack(">II", 20_000, 20_000) + PNG[24:]
BAD: dict[str, tuple[str, bytes | None, str]] = {
    "zero-byte picture": ("image", b"", "file-empty"),
    "truncated picture": ("image", PNG[:-200], "image-damaged"),
    "HTML page named .png": ("image", HTML, "image-not"),
    "PNG of 20,000 x 20,000": ("image", BOMB, "image-too-large"),
    "SVG": ("image", SVG, "image-format"),
    "zero-byte recording": ("audio", b"", "file-empty"),
    "truncated WAV": ("audio", WAV[:-900], "audio-truncated"),
    "WAV with NaN": ("audio", float_wav(np.full(4_000, np.nan)), "audio-not-finite"),
    "WAV of 7 Hz": ("audio", WAV[:24] + struct.pack("<I", 7) + WAV[28:], "audio-bad-header"),
    "picture named .wav": ("audio", PNG, "audio-format"),
    "text in Latin-1": ("text_path", b"caf\xe9", "text-encoding"),
    "text with NUL": ("text_path", b"a\0b", "text-control"),
    "missing file": ("image", None, "file-missing"),
    "FIFO": ("audio", None, "file-not-regular"),
    "path that leaves the folder": ("image", None, "path-escapes"),
}
"""Kind → column, bytes (None: no plain file), code."""
ENDINGS = {"image": ".png", "audio": ".wav", "text_path": ".txt"}


def write(folder: Path) -> None:
    """`rows.csv` and its files."""
    (folder / "files").mkdir(parents=True)
    rows = []
    for number in range(GOOD):
        cells = {
            "image": (f"files/{number}.png", png(40, 30, seed=number)),
            "audio": (f"files/{number}.wav", wav(seconds=0.2, seed=number)),
            "text_path": (f"files/{number}.txt", f"sample number {number}".encode()),
        }
        for name, data in cells.values():
            (folder / name).write_bytes(data)
        rows.append({"id": f"good {number}", **{c: name for c, (name, _) in cells.items()}})
    for kind, (column, data, code) in BAD.items():
        name = f"files/{kind.replace(' ', '-')}{ENDINGS[column]}"
        if data is not None:
            (folder / name).write_bytes(data)
        elif code == "file-not-regular":
            os.mkfifo(folder / name)
        rows.append({"id": kind, column: "../../../etc/passwd" if code == "path-escapes" else name})
    with (folder / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["id", "image", "audio", "text_path", "label"])
        table.writeheader()
        table.writerows({**row, "label": "ab"[number % 2]} for number, row in enumerate(rows))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
