"""A recording's bytes → mono float32 samples, or a coded refusal, within a duration budget.

Lengths in headers are checked before anything is allocated, and against what was decoded afterwards.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmpipe.errors import SampleError
from mmpipe.media import audio_header, mpeg, sniff

MAX_DURATION_S = 600.0
"""Default budget of `decode` and `inspect`."""
MAX_CHANNELS = 8
SAMPLE_RATES = (1_000, 384_000)
"""Lowest and highest sample rate that is believed, Hz."""
MAX_PEAK = 1e4
"""Largest sample of a file of floats that is believed, full scale being 1."""

_BLOCK_FRAMES = 1 << 18
_SILENCE_PEAK = 1e-4
_CLIPPED_SHARE = 0.01
_MP3_SLACK_FRAMES = 2 * 1152
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's largest number stands for a length that the header does not tell (a streamed FLAC)."""
_INT16_SUBTYPES = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"})
"""Read as int16 and scaled: exact, and faster. Not lossy ones: Ogg Vorbis wraps around above 1.0 there."""


@dataclass(frozen=True)
class Facts:
    """What `inspect` finds. `clipped` is the share of samples at full scale."""

    format: str
    duration_s: float
    sample_rate: int
    channels: int
    peak: float
    clipped: float

    @property
    def warnings(self) -> list[str]:
        """Silence and clipping, named."""
        if self.peak < _SILENCE_PEAK:
            return ["audio: silence"]
        return [f"audio: {self.clipped:.0%} clipped"] if self.clipped > _CLIPPED_SHARE else []


def inspect(data: bytes, *, max_duration_s: float = MAX_DURATION_S, allow_truncated: bool = False) -> Facts:
    """Decode block by block, keep nothing but the facts: memory does not grow with the duration.

    Raises SampleError `audio-*` (see `decode`).
    """
    kind, data = _checked(data, allow_truncated)
    peak, clipped, frames = 0.0, 0, 0
    with _opened(data, kind) as file:
        _check_header(file, max_duration_s)
        for block in _mono_blocks(file, _limit(file, max_duration_s)):
            loudness = np.abs(block)
            peak = max(peak, float(loudness.max()))
            clipped += int(np.count_nonzero(loudness >= 0.9999))
            frames += len(block)
        _check_length(file, frames, max_duration_s, allow_truncated)
        rate: int = file.samplerate
        return Facts(kind, frames / rate, rate, file.channels, peak, clipped / frames)


def decode(
    data: bytes,
    *,
    keep_s: float | None = None,
    whole: bool = True,
    max_duration_s: float = MAX_DURATION_S,
    allow_truncated: bool = False,
) -> tuple[NDArray[np.float32], int]:
    """Mono float32 samples of shape (frames,), nominally in [-1, 1], and the sample rate in Hz.

    `keep_s`: those of the beginning only. The rest is decoded, too, and what is wrong with it counts, as in
    `inspect`; `whole` False stops where enough is kept, however long the recording is. Channels are averaged.
    Raises SampleError `audio-format`, `audio-damaged`, `audio-truncated`, `audio-too-long` past
    `max_duration_s`, `audio-not-finite` or `audio-bad-header`.
    """
    kind, data = _checked(data, allow_truncated)
    stop_s = keep_s if keep_s is not None and not whole else None
    with _opened(data, kind) as file:
        _check_header(file, max_duration_s if stop_s is None else math.inf)
        rate: int = file.samplerate
        keep = math.inf if keep_s is None else max(1, round(keep_s * rate))
        blocks: list[NDArray[np.float32]] = []
        frames = 0
        for block in _mono_blocks(file, _limit(file, max_duration_s if stop_s is None else stop_s)):
            if frames < keep:
                blocks.append(block)
            frames += len(block)
        if stop_s is None:
            _check_length(file, frames, max_duration_s, allow_truncated)
        if not blocks:
            raise SampleError("audio-damaged", f"this {kind} holds no samples")
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return samples if keep_s is None else samples[: int(keep)], rate


def _checked(data: bytes, allow_truncated: bool) -> tuple[str, bytes]:
    """The format by its bytes, with what its headers say about channels, rate and length checked.

    And the bytes to decode: those of an MP3 with its real length told.
    """
    kind = sniff.audio_format(data)
    if kind is None:
        what = sniff.image_format(data) or sniff.foreign(data)
        raise SampleError("audio-format", f"is no recording that can be read (looks like {what})")
    if kind == "WAV":
        header = audio_header.wav(data)
        _check_numbers(header.channels, header.sample_rate)
    if kind == "Ogg" and (links := audio_header.ogg_links(data)) > 1:
        raise SampleError("audio-format", f"is a chain of {links} Ogg streams: only the first would be heard")
    missing = audio_header.missing_bytes(data, kind)
    if missing and not allow_truncated:
        raise SampleError(
            "audio-truncated", f"ends early: {len(data):,} bytes, at least {missing:,} more are announced"
        )
    return kind, mpeg.with_length(data) if kind == "MP3" else data


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """Read once from its beginning: soundfile seeks after each read, which a streamed FLAC refuses."""

    def seekable(self) -> bool:
        """Never."""
        return False


def _opened(data: bytes, kind: str) -> soundfile.SoundFile:
    try:
        return _Forward(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise SampleError("audio-damaged", f"this {kind} cannot be opened ({error.error_string})") from None


def _check_numbers(channels: int, sample_rate: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise SampleError("audio-bad-header", f"has {channels} channels, 1 to {MAX_CHANNELS} are allowed")
    low, high = SAMPLE_RATES
    if not low <= sample_rate <= high:
        raise SampleError("audio-bad-header", f"has {sample_rate:,} Hz, {low:,} to {high:,} are allowed")


def _check_header(file: soundfile.SoundFile, max_duration_s: float) -> None:
    _check_numbers(file.channels, file.samplerate)
    _check_duration(_told_frames(file) / file.samplerate, max_duration_s)


def _told_frames(file: soundfile.SoundFile) -> int:
    """The number of frames that the header tells; 0 = it does not."""
    frames: int = file.frames
    return frames if frames < _UNKNOWN_FRAMES else 0


def _check_duration(duration_s: float, max_duration_s: float) -> None:
    if duration_s > max_duration_s:
        raise SampleError("audio-too-long", f"{duration_s:,.1f} s, {max_duration_s:,.1f} s are allowed")


def _limit(file: soundfile.SoundFile, duration_s: float) -> int:
    """Frames to read at most: one beyond the budget, so that a header that lied is noticed."""
    return int(duration_s * file.samplerate) + 1


def _mono_blocks(file: soundfile.SoundFile, limit: int) -> Iterator[NDArray[np.float32]]:
    """The recording, channels averaged, up to `limit` frames."""
    as_int16 = file.subtype in _INT16_SUBTYPES
    while limit > 0:
        try:
            block = file.read(
                min(_BLOCK_FRAMES, limit), dtype="int16" if as_int16 else "float32", always_2d=True
            )
        except soundfile.LibsndfileError as error:
            what = f"cannot be decoded to its end ({error.error_string})"
            raise SampleError("audio-damaged", f"this {file.format} {what}") from None
        if not len(block):
            return
        if not as_int16:
            _check_peak(float(np.maximum(block.max(), -block.min())))
        mono = block[:, 0].astype(np.float32)
        for channel in range(1, block.shape[1]):
            mono += block[:, channel]
        mono /= block.shape[1]
        if as_int16:
            mono *= np.float32(1 / 32768)
        limit -= len(block)
        yield mono


def _check_peak(peak: float) -> None:
    """NaN is no number within the limit, either."""
    if not math.isfinite(peak):
        raise SampleError("audio-not-finite", "holds NaN or infinite samples")
    if peak > MAX_PEAK:
        what = f"holds samples of {peak:.1e} times full scale"
        raise SampleError("audio-not-finite", f"{what}, {MAX_PEAK:,.0f} times are allowed")


def _check_length(
    file: soundfile.SoundFile, frames: int, max_duration_s: float, allow_truncated: bool
) -> None:
    _check_duration(frames / file.samplerate, max_duration_s)
    if frames == 0:
        raise SampleError("audio-damaged", f"this {file.format} holds no samples")
    told = _told_frames(file)
    if file.format == "MP3":  # of layers I and II it is a guess
        told = told - _MP3_SLACK_FRAMES if file.subtype == "MPEG_LAYER_III" else 0
    if frames < told and not allow_truncated:
        raise SampleError(
            "audio-truncated", f"ends early: {frames:,} samples, its header says {file.frames:,}"
        )
