"""Small pictures and recordings, made from a seed."""

import io

import cv2
import numpy as np
import soundfile


def png(width: int, height: int, *, seed: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def wav(*, seconds: float, seed: int, sample_rate: int = 16_000) -> bytes:
    """A WAV of quiet noise, 16 bits, mono."""
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * sample_rate)).clip(-1, 1)
    out = io.BytesIO()
    soundfile.write(out, samples, sample_rate, format="WAV", subtype="PCM_16")
    return out.getvalue()
