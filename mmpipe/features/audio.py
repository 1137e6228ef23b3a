"""A recording's bytes → log-mel spectrogram: soundfile, resampling, short-time Fourier transform, mel bands.

Frames are centred, the edges reflected, the window is Hann, the power is |X|², the mel scale HTK's
(m = 2595 log10(1 + f/700)) with triangles of height 1, and the value ln(mel + 1e-6).
"""

import json
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from mmpipe.errors import SampleError
from mmpipe.media import audio

FLOOR = 1e-6
"""Added to the mel power before the logarithm."""


def extract(  # noqa: PLR0913 (the keys of `audio` in params.yaml)
    data: bytes,
    *,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    max_duration_s: float,
    mode: str,
    judged: bool = False,
) -> NDArray[np.float16]:
    """float16 log-mel of shape (1 + samples // hop_length, n_mels) of the first `max_duration_s` seconds.

    `fast`: soxr and a framed FFT; `exact`: torchaudio's Resample and MelSpectrogram. `judged`: ingest has
    accepted these very bytes, so one that ends early is taken, and what comes after is not looked at again.
    Raises SampleError `audio-*`; no value that is returned is NaN or infinite.
    """
    samples, rate = audio.decode(data, keep_s=max_duration_s, whole=not judged, allow_truncated=judged)
    front_end = exact if mode == "exact" else fast
    mel = front_end(samples, rate, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
    feature = log(mel).astype(np.float16)
    if not np.isfinite(feature).all():
        raise SampleError("audio-not-finite", "gives a spectrogram with NaN or infinite values")
    return feature


def log(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """ln(mel + 1e-6): between -13.8 and, for full scale, about 9."""
    return np.asarray(np.log(mel + np.float32(FLOOR)))


def fast(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int
) -> NDArray[np.float32]:
    """Mel power, float32 of shape (frames, n_mels), of mono samples at `rate` Hz."""
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    padded = np.pad(_at_least(samples, n_fft), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    window, bank = _tables(sample_rate, n_fft, n_mels)
    spectrum = np.fft.rfft(frames * window)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.asarray(power @ bank)


def exact(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int
) -> NDArray[np.float32]:
    """The same by torchaudio."""
    import torch  # two seconds of CPU that `fast` does not pay

    wave = torch.from_numpy(samples)
    if rate != sample_rate:
        wave = _resampler(rate, sample_rate)(wave)
    wave = torch.from_numpy(_at_least(wave.numpy(), n_fft))
    mel: NDArray[np.float32] = _transform(sample_rate, n_fft, hop_length, n_mels)(wave).numpy()
    return np.ascontiguousarray(mel.T)


def facts(
    *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int, max_duration_s: float, mode: str
) -> dict[str, str]:
    """Metadata of the feature table."""
    numbers = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels}
    shape = {"dtype": "float16", "shape": json.dumps([-1, n_mels])}
    return {
        **shape,
        **{k: str(v) for k, v in numbers.items()},
        "max_duration_s": str(max_duration_s),
        "mode": mode,
    }


def max_bytes(*, sample_rate: int, hop_length: int, n_mels: int, max_duration_s: float, **_: object) -> int:
    """Bytes of the largest feature."""
    return (1 + int(sample_rate * max_duration_s) // hop_length) * n_mels * 2


def mel_bank(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float32]:
    """Triangular filters, float32 of shape (n_fft // 2 + 1, n_mels): S. Young et al., The HTK Book, 5.4."""
    frequencies = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    slopes = corners[None, :] - frequencies[:, None]
    widths = np.diff(corners)
    up, down = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def _at_least(samples: NDArray[np.float32], n_fft: int) -> NDArray[np.float32]:
    """Silence after recordings that are shorter than a window, whose edges could not be reflected."""
    return np.pad(samples, (0, max(0, n_fft - len(samples))))


@lru_cache(maxsize=8)
def _tables(sample_rate: int, n_fft: int, n_mels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The periodic Hann window and the mel filters."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return window.astype(np.float32), mel_bank(sample_rate, n_fft, n_mels)


@lru_cache(maxsize=64)
def _resampler(rate: int, sample_rate: int) -> Any:
    from torchaudio.transforms import Resample

    return Resample(rate, sample_rate)


@lru_cache(maxsize=8)
def _transform(sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> Any:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
