"""What a recording's headers say of its length, read from its bytes before any decoder sees them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mmpipe.errors import SampleError

_STREAMED = 0xFFFFFFFF
"""A WAV that was written to a pipe has this for a size: the real one is the rest of the file."""
_OGG_BEGIN, _OGG_END = 2, 4
"""Flags of the pages with which a stream begins and ends (RFC 3533, section 6)."""


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


def ogg_links(data: bytes) -> int:
    """How many streams follow one another in an Ogg file ("chained"), as after `cat a.ogg b.ogg`.

    Streams that play together all begin before any goes on, and count once.
    """
    begins = [bool(flags & _OGG_BEGIN) for flags, _ in _ogg_pages(data)]
    return sum(here and not before for before, here in zip([False, *begins], begins, strict=False))


def _ogg_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Flags and end, in bytes, of each page; the last end may be beyond that of the file."""
    position = 0
    while data[position : position + 4] == b"OggS" and position + 27 <= len(data):
        table = data[position + 27 : position + 27 + data[position + 26]]
        end = position + 27 + data[position + 26] + sum(table)
        yield data[position + 5], end
        position = end


def _missing_ogg(data: bytes) -> int:
    """Bytes that the last page lacks; at least 1 where no page is marked as the stream's last."""
    flags, end = 0, 0
    for page in _ogg_pages(data):
        flags, end = page
    cut = data[end : end + 4] == b"OggS"
    return max(0 if flags & _OGG_END and not cut else 1, end - len(data))
