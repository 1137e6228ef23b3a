"""A picture's format, size and orientation from its bytes alone, before any decoder sees them."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mmpipe.errors import SampleError
from mmpipe.media import sniff

_PICTURES = {"SVG", "HEIC", "AVIF", "PSD", "EXR", "EPS", "PDF", "ICO", "JPEG 2000", "JPEG XL", "Radiance HDR"}
_PICTURES |= {"DDS", "XCF", "BigTIFF", "PNM"}

_ORIENTATION, _WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 0x112, 0x100, 0x101, 0x142, 0x143
_SIZES = frozenset({_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT})
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_IHDR = b"\x00\x00\x00\x0dIHDR"
"""Length and type of the first chunk of every PNG."""


@dataclass(frozen=True)
class Header:
    """Size as stored, px; `orientation` is EXIF's 1..8 (1 = upright)."""

    format: str
    width: int
    height: int
    orientation: int = 1
    tile_pixels: int = 0
    """Pixels of one tile of a TIFF: a tile is decoded whole, also where the picture is smaller."""

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read(data: bytes) -> Header:
    """The header of PNG, JPEG, WebP, BMP, TIFF or GIF.

    Raises SampleError `image-format` (a picture of another format), `image-not` (no picture) or
    `image-damaged` (the header ends early or contradicts itself).
    """
    found = sniff.image_format(data)
    if found is None:
        looks = sniff.foreign(data)
        if looks in _PICTURES:
            raise SampleError("image-format", f"{looks} is a format that is not allowed")
        raise SampleError("image-not", f"is not an image (looks like {looks})")
    try:
        return _READERS[found](data)
    except (struct.error, IndexError):
        raise SampleError("image-damaged", f"ends early, within the {found} header") from None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end (of the whole chunk, with length and CRC) of each PNG chunk up to IEND.

    Raises SampleError `image-damaged` where the file ends before IEND.
    """
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise SampleError("image-damaged", f"ends early: {len(data):,} bytes without the closing IEND chunk")


def _png(data: bytes) -> Header:
    """Decoders take the size from an IHDR chunk wherever it is: it must be the first, and the only one."""
    if data[8:16] != _IHDR:
        raise SampleError("image-damaged", "does not begin with the PNG chunk IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    orientation = 1
    for kind, start, end in png_chunks(data):
        if kind == b"IHDR" and start > 8:
            raise SampleError("image-damaged", f"has a second PNG chunk IHDR at byte {start}")
        if kind == b"eXIf":
            orientation = _orientation(data[start + 8 : end - 4])
    return Header("PNG", width, height, orientation)


def _jpeg(data: bytes) -> Header:
    """Markers are looked for as libjpeg does, which passes over other bytes and over FF 00."""
    position, orientation = 2, 1
    while found := _JPEG_MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker in _BARE_MARKERS:
            continue
        if marker in (0xDA, 0xD9):
            raise SampleError("image-damaged", "has no JPEG frame header before its pixels")
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return Header("JPEG", width, height, orientation)
        if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _orientation(data[position + 8 : position + length])
        position += max(2, length)
    raise SampleError("image-damaged", "ends early, within the JPEG header")


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise SampleError("image-damaged", f"ends early: {len(data):,} bytes of {size + 8:,}")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise SampleError("image-damaged", f"has no WebP picture but {kind!r}")
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    return Header("WebP", width, height, _webp_orientation(data) if data[20] & 0x08 else 1)


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"EXIF":
            return _orientation(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return 1


def _bmp(data: bytes) -> Header:
    if data[14] == 12:
        return Header("BMP", *struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", abs(width), abs(height))


def _gif(data: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", data, 6))


def _tiff(data: bytes) -> Header:
    tags = _directory(data)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise SampleError("image-damaged", "has no size in its TIFF directory")
    orientation = tags.get(_ORIENTATION, 1)
    upright = orientation if 1 <= orientation <= 8 else 1
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0)
    return Header("TIFF", tags[_WIDTH], tags[_HEIGHT], upright, tile)


_READERS = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "BMP": _bmp, "GIF": _gif, "TIFF": _tiff}


def _directory(data: bytes) -> dict[int, int]:
    """Tag → value of the first TIFF directory, for the tags that hold one SHORT or LONG.

    Raises SampleError `image-damaged` where a size is there twice: decoders take one, and not all the same.
    """
    order = "<" if data[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    tags: dict[int, int] = {}
    sizes = set()
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        if tag in sizes:
            raise SampleError("image-damaged", f"has the tag {tag} twice in its TIFF directory")
        if tag in _SIZES:
            sizes.add(tag)
        if number == 1 and kind in (3, 4):
            tags[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]
    return tags


def _orientation(exif: bytes) -> int:
    """EXIF orientation; 1 where the block is absent or damaged (the picture itself may well be good)."""
    try:
        value = _directory(exif).get(_ORIENTATION, 1) if exif[:2] in (b"II", b"MM") else 1
    except (struct.error, SampleError):
        return 1
    return value if 1 <= value <= 8 else 1
