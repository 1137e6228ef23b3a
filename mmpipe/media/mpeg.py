"""The number of frames in an MP3, counted in its bytes and written where decoders look for it.

A decoder believes the first frame's tag (Xing, Info, VBRI) and stops there; without one it guesses from the
bit rate, which may vary. ISO/IEC 11172-3, 2.4.2.3; the tag is Xing's. Layers I and II have none.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_RATES = {  # kbit/s by bit rate index, layer III; index 0 is a size not told, 15 is forbidden
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_SAMPLE_RATES = {
    0b11: (44_100, 48_000, 32_000),
    0b10: (22_050, 24_000, 16_000),
    0b00: (11_025, 12_000, 8_000),
}
_MONO = 0b11
_TAGS = (b"Xing", b"Info")
_ZEROS = re.compile(rb"\0+")
_SLACK = 2
"""Frames that a tag may tell less: some encoders do not count the first or the last."""
_SURE = 3
"""So many frames in a row are no chance, wherever they are."""
_NEW_TAG_RATE = 8 << 4
"""Bit rate index 8: at every sample rate the frame has room for the tag."""


@dataclass(frozen=True)
class Stream:
    """The frames of sound lie in the bytes from `start` to `end`; `tagged`: how many a tag tells, if any."""

    start: int
    end: int
    frames: int
    tagged: int | None


def stream(data: bytes) -> Stream | None:
    """Count the whole frames of the layer III stream that `data` begins with, titles (ID3v2) aside.

    Other bytes between frames are passed over. None where there are not two such frames at the beginning.
    """
    start = _after_titles(data)
    second, third = data[start + 1 : start + 2], data[start + 2 : start + 3]
    sizes = _sizes(second[0] | 1, third[0] >> 2 & 3) if third and data[start] == 0xFF else ()
    if not sizes or _run(data, start, sizes)[0] < 2:
        return None
    tagged, start = _tag(data, start, start + sizes[third[0]])
    frames = position = end = 0
    sync = re.compile(rb"\xff[" + re.escape(bytes([second[0] & 0xFE, second[0] | 1])) + rb"]")
    while found := sync.search(data, max(start, position)):
        run, after = _run(data, found.start(), sizes)
        if run >= _SURE or found.start() == start:
            frames, end = frames + run, after
        position = max(after, found.start() + 1)
    return Stream(start, end, frames, tagged)


def with_length(data: bytes) -> bytes:
    """The same recording, its length told by a tag: its own, unless there are more frames than that tells."""
    found = stream(data)
    if found is None or (found.tagged is not None and found.frames - found.tagged <= _SLACK):
        return data
    first = data[found.start : found.start + 4]
    header = bytes([0xFF, first[1] | 1, _NEW_TAG_RATE | first[2] & 0b1100, first[3]])
    size = _sizes(first[1] | 1, first[2] >> 2 & 3)[header[2]]
    tag = header + bytes(_side_bytes(first)) + b"Info\0\0\0\1" + found.frames.to_bytes(4, "big")
    return tag.ljust(size, b"\0") + data[found.start : found.end]


def _after_titles(data: bytes) -> int:
    """Where tags of titles (ID3v2) at the beginning end; a size is told in four times seven bits."""
    position = 0
    while data[position : position + 3] == b"ID3" and position + 10 <= len(data):
        size = data[position + 6 : position + 10]
        footer = 10 if data[position + 5] & 0x10 else 0
        position += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + footer
        padding = _ZEROS.match(data, position)
        position = padding.end() if padding else position
    return position


@lru_cache(maxsize=32)
def _sizes(second: int, rate_index: int) -> tuple[int, ...]:
    """Bytes of a frame by its header's third byte, 0 where that is not of this stream; () if none can be."""
    version = second >> 3 & 3
    if second & 0xE7 != 0xE3 or version not in _SAMPLE_RATES or rate_index == 3:
        return ()
    bits, rate = 144_000 if version == 0b11 else 72_000, _SAMPLE_RATES[version][rate_index]
    kilobits = _RATES[1 if version == 0b11 else 2]
    return tuple(
        bits * kilobits[third >> 4] // rate + (third >> 1 & 1)
        if third >> 2 & 3 == rate_index and kilobits[third >> 4]
        else 0
        for third in range(256)
    )


def _run(data: bytes, position: int, sizes: tuple[int, ...]) -> tuple[int, int]:
    """How many whole frames follow one another from `position`, and where they end."""
    second, count, last = data[position + 1] | 1, 0, len(data) - 4
    while position <= last and data[position] == 0xFF and data[position + 1] | 1 == second:
        size = sizes[data[position + 2]]
        if not size or position + size > last + 4:
            break
        count += 1
        position += size
    return count, position


def _side_bytes(header: bytes) -> int:
    """Bytes of side information between the header and the tag."""
    mono, first_version = header[3] >> 6 == _MONO, header[1] >> 3 & 3 == 0b11
    return (17 if mono else 32) if first_version else (9 if mono else 17)


def _tag(data: bytes, start: int, end: int) -> tuple[int | None, int]:
    """The number of frames that the first frame's tag tells, and where the sound begins."""
    place = start + 4 + _side_bytes(data[start : start + 4])
    if data[place : place + 4] in _TAGS:
        told = data[place + 7] & 1
        return int.from_bytes(data[place + 8 : place + 12], "big") if told else None, end
    if data[start + 36 : start + 40] == b"VBRI":
        return int.from_bytes(data[start + 50 : start + 54], "big"), end
    return None, start
