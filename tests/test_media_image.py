"""Pictures: one defined RGB for every format, a coded refusal for everything else."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpipe.errors import SampleError
from mmpipe.media import image
from mmpipe.media.phash import phash
from mmpipe.media.sniff import extension_warning


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, raw, *, depth=8, color=2, before=b"", after=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = before + chunk(b"IDAT", zlib.compress(raw)) + after
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width=90, height=60):
    """Smooth colours with a red upper left corner."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 - 2 * x, 2 * y, x + y], axis=-1).clip(0, 255).astype(np.uint8)
    pixels[: height // 3, : width // 3] = (255, 0, 0)
    return pixels


def code(data, **options):
    with pytest.raises(SampleError) as raised:
        image.decode(data, **options)
    return raised.value.code, raised.value.what


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WebP", "GIF"])
def test_lossless_formats_give_back_the_pixels(kind):
    pixels = scene()
    options = {"lossless": True} if kind == "WebP" else {}
    picture = Image.fromarray(pixels)
    if kind == "GIF":
        picture = picture.quantize(200)
        pixels = np.asarray(picture.convert("RGB"))
    decoded = image.decode(saved(picture, kind, **options))
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, pixels)


def test_alpha_lies_over_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 255, 51)
    decoded = image.decode(saved(Image.fromarray(rgba), "PNG"))
    assert decoded[0].tolist() == [[255] * 3, [0] * 3, [204] * 3]


def test_sixteen_bits_are_rounded_and_grey_is_repeated():
    grey16 = png(3, 1, b"\0" + struct.pack(">HHH", 0, 0x00FF, 0xFFFF), depth=16, color=0)
    assert image.decode(grey16)[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


def test_sixteen_bits_take_no_more_memory_than_eight():
    rgba = np.full((1_000, 1_000, 4), 65_535, np.uint16)
    tracemalloc.start()
    assert (image._over_white(rgba) == 255).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * rgba.nbytes


def test_palette_with_transparency():
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) + chunk(b"tRNS", bytes([0, 255]))
    assert image.decode(png(2, 1, b"\0\0\1", color=3, before=palette))[0].tolist() == [[255] * 3, [0, 255, 0]]


def test_cmyk_jpeg_becomes_rgb():
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = image.decode(saved(flat, "JPEG", quality=95))[8, 8]
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    """The eight orientations, against Pillow's transposes."""
    exif = Image.Exif()
    exif[0x112] = orientation
    options = (
        {"lossless": True} if kind == "WebP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    )
    picture = Image.fromarray(scene())
    data = saved(picture, kind, exif=exif, **options)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = np.asarray(picture.transpose(turn[orientation]) if orientation > 1 else picture)
    decoded = image.decode(data)
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < (3 if kind == "JPEG" else 1e-9)
    assert image.header(data).shown == (decoded.shape[1], decoded.shape[0])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 65_500), (65_500, 1)])
def test_odd_sizes(width, height):
    data = png(width, height, (b"\0" + bytes([77]) * width) * height, color=0)
    assert image.decode(data).shape == (height, width, 3)
    assert isinstance(phash(image.decode(data)), int)


def test_reduced_decode_is_used_and_keeps_the_picture():
    pixels = scene(800, 600)
    data = image.encode(pixels, ".jpg")
    whole, reduced = image.decode(data), image.decode(data, at_least=64)
    assert whole.shape == (600, 800, 3) and reduced.shape == (75, 100, 3)
    averaged = whole[:600, :800].reshape(75, 8, 100, 8, 3).mean(axis=(1, 3))
    assert np.abs(averaged - reduced).mean() < 3
    assert image.decode(data, at_least=301).shape == whole.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WebP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("at_least", [None, 8])
def test_truncated_files_are_damaged(kind, share, at_least):
    data = saved(Image.fromarray(scene(400, 300)), kind)
    found, what = code(data[: int(len(data) * share)], at_least=at_least)
    assert found == "image-damaged"
    if kind in ("JPEG", "PNG"):
        assert "ends early" in what


def test_damaged_apng_is_decoded_as_a_still():
    control = chunk(b"acTL", struct.pack(">II", 3, 0)) + chunk(b"fcTL", b"\xff" * 26)
    animated = png(2, 1, b"\0" + b"\x10" * 6, before=control, after=control + chunk(b"fdAT", b"\0\0\0\1junk"))
    assert image.decode(animated).tolist() == [[[16] * 3] * 2]


def test_bomb_is_refused_before_any_decoder(monkeypatch):
    monkeypatch.setattr(image.cv2, "imdecode", lambda *_: pytest.fail("a decoder was called"))
    assert code(png(20_000, 20_000, b""))[0] == "image-too-large"
    assert code(png(0, 10, b""))[0] == "image-bad-size"
    tiled = b"II*\0\x08\0\0\0" + struct.pack("<H", 4)
    for tag, value in ((256, 8), (257, 8), (322, 60_000), (323, 60_000)):
        tiled += struct.pack("<HHII", tag, 4, 1, value)
    assert code(tiled)[0] == "image-too-large"


def flat_png(width, height):
    return chunk(b"IDAT", zlib.compress(bytes((width + 1) * height), 9))


def grey_header(width, height):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def tiff(entries, strip):
    """An 8-bit grey picture; `entries` of its directory: tag, type, value."""
    where = 8 + 2 + 12 * (len(entries) + 6) + 4
    rest = [(258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, where), (277, 3, 1), (279, 4, len(strip))]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in [*entries, *rest])
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries) + 6) + packed + b"\0\0\0\0" + strip


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
TWO_SIZES = {
    "a chunk before IHDR": SIGNATURE
    + chunk(b"juNk", struct.pack(">II", 8, 8) + bytes(5))
    + grey_header(2_000, 2_000)
    + flat_png(2_000, 2_000)
    + END,
    "two IHDR": SIGNATURE + grey_header(8, 8) + grey_header(2_000, 2_000) + flat_png(2_000, 2_000) + END,
    "a long IHDR": SIGNATURE + chunk(b"IHDR", struct.pack(">II", 8, 8) + bytes(6)) + flat_png(8, 8) + END,
    "a TIFF with two widths": tiff(
        [(256, 4, 2_000), (256, 4, 8), (257, 4, 2_000), (257, 4, 8)], zlib.compress(bytes(4_000_000))
    ),
}


@pytest.mark.parametrize("data", TWO_SIZES.values(), ids=TWO_SIZES.keys())
def test_a_header_that_decoders_read_differently_is_refused_before_any(data, monkeypatch):
    monkeypatch.setattr(image.cv2, "imdecode", lambda *_: pytest.fail("a decoder was called"))
    assert code(data, max_pixels=100)[0] == "image-damaged"


@pytest.mark.parametrize("before", [b"\xff\x00", b"\xff\x01junk", b"\xff\x01\xff\xff\x00", b"\xff\x02"])
def test_the_frame_header_of_a_jpeg_is_the_one_that_decoders_find(before):
    """One picture hidden in what looks like a segment before another; FF 02 is one that decoders refuse."""
    large, small = (saved(Image.new("L", (side, side)), "JPEG", quality=10) for side in (2_000, 8))
    data = b"\xff\xd8" + before + struct.pack(">H", len(large)) + large[2:] + small[2:]
    header = image.header(data)
    if before == b"\xff\x02":
        assert code(data)[0] == "image-damaged"
    else:
        assert image.decode(data).shape[:2] == (header.height, header.width) == (2_000, 2_000)


def test_a_decoder_that_saw_another_size_is_not_believed(monkeypatch):
    monkeypatch.setattr(image.image_header, "read", lambda _: image.Header("PNG", 8, 8))
    found, what = code(saved(Image.new("L", (9, 8)), "PNG"))
    assert found == "image-damaged" and "9 × 8 px, its header says 8 × 8" in what


def test_a_tiff_with_one_width_is_read():
    found = image.decode(tiff([(256, 4, 8), (257, 4, 4)], zlib.compress(bytes(32))))
    assert found.shape == (4, 8, 3)


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "image-not", "HTML"),
        (b"just words\n", "image-not", "text"),
        (b"\x00\x01\x02\x03" * 9, "image-not", "unknown bytes"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "image-format", "SVG"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, "image-format", "HEIC"),
        (b"8BPS\0\1" + b"\0" * 20, "image-format", "PSD"),
        (b"v/1\x01" + b"\0" * 20, "image-format", "EXR"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image-format", "EPS"),
    ],
)
def test_what_is_no_allowed_picture_is_named(data, expected, words):
    found, what = code(data)
    assert found == expected and words in what


def test_float_pixels_are_refused():
    assert code(saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))[0] == "image-format"


def test_extension_is_compared_with_the_bytes():
    assert extension_warning("image", "a.JPG", "JPEG") is None
    assert extension_warning("image", "a.jpg", "PNG") == "image: a PNG named .jpg"


SEEDS = [
    saved(Image.fromarray(scene(24, 16)), kind) for kind in ("PNG", "JPEG", "WebP", "BMP", "TIFF", "GIF")
]


@settings(max_examples=150, deadline=None)
@given(data=st.sampled_from(SEEDS), edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255))))
def test_any_bytes_give_pixels_or_a_code(data, edits):
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    try:
        assert image.decode(bytes(changed), max_pixels=100_000).dtype == np.uint8
    except SampleError as error:
        assert error.code.startswith("image-")


def test_phash_survives_size_and_compression_and_tells_pictures_apart():
    rng = np.random.default_rng(0)
    clouds = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    again = image.decode(image.encode(clouds, ".jpg"), at_least=64)
    other = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    assert (phash(clouds) ^ phash(again)).bit_count() <= 4
    assert (phash(clouds) ^ phash(other)).bit_count() > 12
    assert phash(np.full((50, 50, 3), 90, np.uint8)) == 0
