"""What a recording's headers say of its length, read from its bytes before any decoder sees them."""

import struct
from dataclasses import dataclass

from mmpipe.errors import SampleError

_STREAMED = 0xFFFFFFFF
"""A WAV that was written to a pipe has this for a size: the real one is the rest of the file."""


@dataclass(frozen=True)
class Wav:
    """`data_end` is where the header says the samples end, in bytes from the start; None = streamed."""

    channels: int
    sample_rate: int
    data_end: int | None


def wav(data: bytes) -> Wav:
    """The `fmt ` and `data` chunks of a RIFF WAVE. Raises SampleError `audio-damaged` without them."""
    position, numbers = 12, None
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind == b"fmt " and position + 16 <= len(data):
            numbers = struct.unpack_from("<HI", data, position + 10)
        if kind == b"data":
            if numbers is None:
                break
            end = None if size == _STREAMED else position + 8 + size
            return Wav(numbers[0], numbers[1], end)
        position += 8 + size + size % 2
    raise SampleError("audio-damaged", "this WAV has no samples after its header (ends early)")


def missing_bytes(data: bytes, audio_format: str) -> int:
    """How many bytes the file is shorter than its WAV header or its last Ogg page says; 0 = none."""
    if audio_format == "WAV":
        end = wav(data).data_end
        return 0 if end is None else max(0, end - len(data))
    return _missing_ogg(data) if audio_format == "Ogg" else 0


def mp3_declares_length(data: bytes) -> bool:
    """Whether a Xing or Info frame gives the number of frames (else decoders only estimate it)."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
        start = 10 + size
    head = data[start : start + 256]
    return b"Xing" in head or b"Info" in head


def _missing_ogg(data: bytes) -> int:
    """Bytes that the last page lacks; at least 1 where no page is marked as the stream's last."""
    position, ended = 0, False
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            return 0 if ended else 1
        if position + 27 > len(data):
            return 1
        table = data[position + 27 : position + 27 + data[position + 26]]
        end = position + 27 + data[position + 26] + sum(table)
        if end > len(data):
            return end - len(data)
        ended = bool(data[position + 5] & 4)
        position = end
    return 0 if ended else 1
