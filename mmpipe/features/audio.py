"""A recording's bytes → spectrogram: soundfile, resampling, Fourier transform, mel bands, cepstrum.

Frames are centred, the edges reflected, and the window is Hann.
`stft`: the magnitude |X| of each frequency. `log_mel`: ln(mel + 1e-6), where the power |X|² goes through
triangles of height 1 on HTK's mel scale, m = 2595 log10(1 + f/700). `mfcc`: the first coefficients of the
orthonormal DCT-II of `log_mel`. `wave`: the samples themselves, for a backbone that reads them; `pcm`: the
same in 16 bits, to be kept: 32,768 is full scale, and what is beyond it is cut there.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from mmpipe.errors import SampleError
from mmpipe.media import audio

PCM = np.iinfo(np.int16)
FLOOR = 1e-6
"""Added to the mel power before the logarithm."""
LOUDEST = float(np.finfo(np.float16).max)
"""What can be stored: larger magnitudes, of samples far beyond full scale, are cut there."""


def extract(  # noqa: PLR0913 (the keys of `audio` in params.yaml)
    data: bytes,
    *,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    max_duration_s: float,
    mode: str,
    kind: str = "log_mel",
    n_mfcc: int = 20,
    judged: bool = False,
) -> NDArray[np.floating[Any] | np.int16]:
    """float16 of shape (1 + samples // hop_length, `width`) of the first `max_duration_s` seconds.

    `wave` is float32 of shape (samples,), `pcm` int16.

    `fast`: soxr and a framed FFT; `exact`: torchaudio's transforms. `judged`: ingest has accepted these very
    bytes, so one that ends early is taken, and what comes after is not looked at again. Raises SampleError
    `audio-*`; no value that is returned is NaN or infinite.
    """
    samples, rate = audio.decode(data, keep_s=max_duration_s, whole=not judged, allow_truncated=judged)
    sizes = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length}
    front_end = FRONT_ENDS[mode]
    if kind in ("pcm", "wave"):
        wave = front_end.wave(samples, rate, sample_rate=sample_rate, n_fft=n_fft)
        return pcm(wave) if kind == "pcm" else wave
    if kind == "stft":
        found = np.minimum(front_end.magnitude(samples, rate, **sizes), LOUDEST)
    else:
        found = log(front_end.mel(samples, rate, **sizes, n_mels=n_mels))
    if kind == "mfcc":
        found = front_end.coefficients(found, n_mfcc)
    feature = found.astype(np.float16)
    if not np.isfinite(feature).all():
        raise SampleError("audio-not-finite", "gives a spectrogram with NaN or infinite values")
    return feature


def pcm(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in -1 … 1 → 16-bit integers: those of a 16-bit file at its own rate are the file's own.

    Raises SampleError `audio-not-finite`.
    """
    if not np.isfinite(wave).all():
        raise SampleError("audio-not-finite", "holds NaN or infinite values after resampling")
    return np.asarray(np.clip(np.rint(wave * -PCM.min), PCM.min, PCM.max).astype(np.int16))


def log(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """ln(mel + 1e-6): between -13.8 and, for full scale, about 9."""
    return np.asarray(np.log(mel + np.float32(FLOOR)))


def width(*, kind: str = "log_mel", n_fft: int, n_mels: int, n_mfcc: int = 20, **_: object) -> int:
    """Values a frame."""
    return {"log_mel": n_mels, "mfcc": n_mfcc, "stft": n_fft // 2 + 1}[kind]


def fast(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int
) -> NDArray[np.float32]:
    """Mel power, float32 of shape (frames, n_mels), of mono samples at `rate` Hz."""
    power = _power(samples, rate, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
    return np.asarray(power @ mel_bank(sample_rate, n_fft, n_mels))


def fast_magnitude(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int
) -> NDArray[np.float32]:
    """|X|, float32 of shape (frames, n_fft // 2 + 1)."""
    power = _power(samples, rate, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
    return np.asarray(np.sqrt(power))


def fast_wave(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int
) -> NDArray[np.float32]:
    """Samples at `sample_rate` Hz, of one window at least."""
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    return _at_least(samples, n_fft)


def fast_coefficients(log_mel: NDArray[np.float32], n_mfcc: int) -> NDArray[np.float32]:
    """(frames, n_mels) → (frames, n_mfcc)."""
    return np.asarray(log_mel @ dct(log_mel.shape[1], n_mfcc))


def _power(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int
) -> NDArray[np.float32]:
    wave = fast_wave(samples, rate, sample_rate=sample_rate, n_fft=n_fft)
    padded = np.pad(wave, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    spectrum = np.fft.rfft(frames * _window(n_fft))
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag))


def exact(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int
) -> NDArray[np.float32]:
    """As `fast`, by torchaudio."""
    wave = _tensor(samples, rate, sample_rate=sample_rate, n_fft=n_fft)
    return _frames_first(_mel_spectrogram(sample_rate, n_fft, hop_length, n_mels)(wave))


def exact_magnitude(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int, hop_length: int
) -> NDArray[np.float32]:
    """As `fast_magnitude`, by torchaudio."""
    wave = _tensor(samples, rate, sample_rate=sample_rate, n_fft=n_fft)
    return _frames_first(_spectrogram(n_fft, hop_length)(wave))


def exact_wave(
    samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int
) -> NDArray[np.float32]:
    """As `fast_wave`, by torchaudio."""
    return np.asarray(_tensor(samples, rate, sample_rate=sample_rate, n_fft=n_fft).numpy())


def exact_coefficients(log_mel: NDArray[np.float32], n_mfcc: int) -> NDArray[np.float32]:
    """As `fast_coefficients`, by torchaudio."""
    from torchaudio.functional import create_dct

    cosines: NDArray[np.float32] = create_dct(n_mfcc, log_mel.shape[1], "ortho").numpy()
    return np.asarray(log_mel @ cosines)


def facts(**settings: Any) -> dict[str, str]:
    """Metadata of the feature table."""
    settings = {"kind": "log_mel", "n_mfcc": 20, **settings}
    kept = {"pcm": "int16", "wave": "float32"}
    sizes = [-1] if settings["kind"] in kept else [-1, width(**settings)]
    shape = {"dtype": kept.get(settings["kind"], "float16"), "shape": json.dumps(sizes)}
    return shape | {key: str(value) for key, value in settings.items()}


def max_bytes(*, sample_rate: int, hop_length: int, max_duration_s: float, **sizes: Any) -> int:
    """Bytes of the largest feature."""
    if sizes.get("kind") in ("pcm", "wave"):
        return (2 if sizes["kind"] == "pcm" else 4) * (1 + int(sample_rate * max_duration_s))
    return (1 + int(sample_rate * max_duration_s) // hop_length) * width(**sizes) * 2


@lru_cache(maxsize=8)
def mel_bank(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float32]:
    """Triangular filters, float32 of shape (n_fft // 2 + 1, n_mels): S. Young et al., The HTK Book, 5.4."""
    frequencies = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    slopes = corners[None, :] - frequencies[:, None]
    widths = np.diff(corners)
    up, down = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


@lru_cache(maxsize=8)
def dct(n_mels: int, n_mfcc: int) -> NDArray[np.float32]:
    """The orthonormal DCT-II, float32 of shape (n_mels, n_mfcc): Rao and Yip 1990, section 2."""
    band, coefficient = np.arange(n_mels)[:, None], np.arange(n_mfcc)[None, :]
    cosines = np.cos(np.pi / n_mels * (band + 0.5) * coefficient) * np.sqrt(2 / n_mels)
    cosines[:, 0] /= np.sqrt(2)
    found: NDArray[np.float32] = cosines.astype(np.float32)
    return found


def _at_least(samples: NDArray[np.float32], n_fft: int) -> NDArray[np.float32]:
    """Silence after recordings that are shorter than a window, whose edges could not be reflected."""
    return np.pad(samples, (0, max(0, n_fft - len(samples))))


@lru_cache(maxsize=8)
def _window(n_fft: int) -> NDArray[np.float32]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


def _tensor(samples: NDArray[np.float32], rate: int, *, sample_rate: int, n_fft: int) -> Any:
    """A tensor at `sample_rate`, of one window at least."""
    import torch  # two seconds of CPU that `fast` does not pay

    wave = torch.from_numpy(samples)
    if rate != sample_rate:
        wave = _resampler(rate, sample_rate)(wave)
    return torch.from_numpy(_at_least(wave.numpy(), n_fft))


def _frames_first(tensor: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.numpy()
    return np.ascontiguousarray(found.T)


@lru_cache(maxsize=64)
def _resampler(rate: int, sample_rate: int) -> Any:
    from torchaudio.transforms import Resample

    return Resample(rate, sample_rate)


@lru_cache(maxsize=8)
def _spectrogram(n_fft: int, hop_length: int) -> Any:
    from torchaudio.transforms import Spectrogram

    return Spectrogram(n_fft, hop_length=hop_length, power=1.0)


@lru_cache(maxsize=8)
def _mel_spectrogram(sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> Any:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)


class FrontEnd(NamedTuple):
    """One way to a spectrogram: `mel` gives the power of bands, `coefficients` takes its logarithm."""

    wave: Callable[..., NDArray[np.float32]]
    mel: Callable[..., NDArray[np.float32]]
    magnitude: Callable[..., NDArray[np.float32]]
    coefficients: Callable[..., NDArray[np.float32]]


FRONT_ENDS = {
    "fast": FrontEnd(fast_wave, fast, fast_magnitude, fast_coefficients),
    "exact": FrontEnd(exact_wave, exact, exact_magnitude, exact_coefficients),
}
