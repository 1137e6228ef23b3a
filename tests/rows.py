"""Rows of a manifest and the small files that they name."""

import io
import struct

import numpy as np
import soundfile

from mmpipe.media import image
from mmpipe.row import Row

PNG = image.encode(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8), ".png")
JPEG = image.encode(np.random.default_rng(1).integers(0, 256, (200, 300, 3)).astype(np.uint8), ".jpg")
BOMB = PNG[:16] + struct.pack(">II", 20_000, 20_000) + PNG[24:]


def wav(seconds=0.2):
    buffer = io.BytesIO()
    soundfile.write(
        buffer, 0.1 * np.sin(np.arange(int(8_000 * seconds))), 8_000, format="WAV", subtype="PCM_16"
    )
    return buffer.getvalue()


def row(folder, number=1, **cells):
    return Row("m.csv", number, folder, **({"id": f"r{number}", "target": "x"} | cells))
