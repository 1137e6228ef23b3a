"""A picture's bytes → RGB pixels, or a coded refusal, within a pixel budget.

One RGB is defined for every format: alpha is laid over white, 16 bits are rounded to 8, grey and palette
become RGB, CMYK is converted, EXIF orientation is applied, and of an animation the first frame is taken.
(A transparent colour of a greyscale PNG is shown as it is: the decoder does not report it.)
"""

import os

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import MmpipeError, SampleError
from mmpipe.media import image_header
from mmpipe.media.image_header import Header

MAX_PIXELS = 50_000_000
"""Default budget of `decode`, width × height."""
MOST_PIXELS = 1 << 30
"""Past this OpenCV itself refuses, whatever the budget."""
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))  # read by OpenCV once, at its import
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

try:
    import cv2
except ImportError as error:
    raise MmpipeError(
        "library-missing",
        f"OpenCV cannot be imported ({error})",
        fix="on a machine without libGL: pip uninstall opencv-python && pip install opencv-python-headless",
    ) from None

_KEPT_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Format, size and orientation, within the budget; no decoder is called.

    Raises SampleError `image-not`, `image-format`, `image-damaged`, `image-bad-size` or `image-too-large`.
    """
    found = image_header.read(data)
    if found.width < 1 or found.height < 1:
        raise SampleError("image-bad-size", f"says {found.width} × {found.height} px")
    pixels = max(found.width * found.height, found.tile_pixels)
    if pixels > max_pixels:
        what = f"{found.width:,} × {found.height:,} px are {pixels:,}"
        raise SampleError("image-too-large", f"{what}, {max_pixels:,} are allowed")
    return found


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> NDArray[np.uint8]:
    """Decode to uint8 RGB of shape (height, width, 3), C-contiguous.

    `at_least`: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides stay at least so
    many px (several times faster; other formats ignore it). Raises SampleError `image-*` as `header` does.
    """
    found = header(data, max_pixels=max_pixels)
    if found.format == "JPEG":
        pixels = _imdecode(data, _jpeg_flags(found, at_least), found)
    else:
        raw = _still_png(data) if found.format == "PNG" else data
        pixels = _over_white(_imdecode(raw, cv2.IMREAD_UNCHANGED, found))
    if found.format != "TIFF":  # whose decoder has applied the orientation
        pixels = _upright(pixels, found.orientation)
    _check_size(pixels, found)
    return np.ascontiguousarray(pixels)


def luma_square(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Luma (BT.601) of shape (side, side): the picture averaged to fit, in the middle of white."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    square = np.full((side, side), 255, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square


def encode(rgb: NDArray[np.uint8], extension: str) -> bytes:
    """The bytes of a `.png` or `.jpg` (quality 95) file."""
    _, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return bytes(data)


def _jpeg_flags(found: Header, at_least: int | None) -> int:
    side = min(found.width, found.height)
    base: int = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if at_least is not None:
        for factor, flag in (
            (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),  # with COLOR_RGB: reduced, in colour
            (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
            (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        ):
            if side // factor >= at_least:
                return base | int(flag)
    return base


def _still_png(data: bytes) -> bytes:
    """The chunks of one still picture: OpenCV's APNG reader crashes on damaged animation chunks."""
    kept = [data[start:end] for kind, start, end in image_header.png_chunks(data) if kind in _KEPT_PNG_CHUNKS]
    return data[:8] + b"".join(kept)


def _imdecode(data: bytes, flags: int, found: Header) -> NDArray[np.generic]:
    try:
        pixels: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise SampleError("image-damaged", f"this {found.format} cannot be decoded ({error.err})") from None
    if pixels is None:
        how = "ends early" if _lacks_end(data, found.format) else "cannot be decoded"
        raise SampleError("image-damaged", f"this {found.format} {how}")
    return pixels


def _lacks_end(data: bytes, image_format: str) -> bool:
    if image_format == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    return image_format == "GIF" and not data.rstrip(b"\0").endswith(b";")


def _check_size(pixels: NDArray[np.generic], found: Header) -> None:
    """The budget was judged by the header, so the decoder must have seen the same one (reduced or not)."""
    height, width = pixels.shape[:2]
    sizes = [tuple(-(-side // factor) for side in found.shown) for factor in (1, 2, 4, 8)]
    if (width, height) not in (sizes if found.format == "JPEG" else sizes[:1]):
        what = f"is decoded to {width:,} × {height:,} px"
        raise SampleError("image-damaged", f"{what}, its header says {' × '.join(map(str, found.shown))}")


def _over_white(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """OpenCV's grey, BGR or BGRA of 8 or 16 bits → RGB of 8 bits, alpha over white."""
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)  # rounded, without arrays of 32 bits
    if pixels.dtype != np.uint8:
        raise SampleError("image-format", f"pixels of type {pixels.dtype} are not allowed")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)
    rgb: NDArray[np.uint8] = pixels[..., 2::-1].astype(np.uint8)
    if pixels.shape[2] == 4 and int(pixels[..., 3].min()) < 255:
        alpha = pixels[..., 3]
        inverse = cv2.bitwise_not(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB))
        rgb = cv2.bitwise_not(cv2.multiply(inverse, cv2.merge((alpha, alpha, alpha)), scale=1 / 255))
    return rgb


def _upright(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation 1..8 (TIFF 6.0, tag 274): transpose for 5..8, then mirror."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels.astype(np.uint8, copy=False)


def thumbnail(data: bytes, *, side: int, max_pixels: int = MAX_PIXELS) -> bytes:
    """A new JPEG of the picture, at most `side` px wide and high: no byte of the original is in it.

    Raises SampleError `image-*` as `decode` does.
    """
    pixels = decode(data, max_pixels=max_pixels, at_least=side)
    height, width = pixels.shape[:2]
    share = min(1.0, side / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if share < 1 else pixels
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(encoded)
