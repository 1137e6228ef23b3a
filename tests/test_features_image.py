"""Pictures → squares: place of the pixels, averaging, the two modes."""

import cv2
import numpy as np
import pytest

from mmpipe.errors import SampleError
from mmpipe.features import image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(pixels, suffix=".png", *options):
    return cv2.imencode(suffix, pixels[..., ::-1], options)[1].tobytes()


def halves(height, width):
    """Left half red, right half blue."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2] = RED
    pixels[:, width // 2 :] = BLUE
    return pixels


def test_wide_picture_lies_in_the_middle_with_white_above_and_below():
    square = image.extract(encoded(halves(50, 100)), size=32, mode="exact")
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert (square[:8] == 255).all()
    assert (square[-8:] == 255).all()
    assert (square[8:24, :16] == RED).all()
    assert (square[8:24, 16:] == BLUE).all()


def test_tall_and_tiny_pictures_fit():
    assert (image.extract(encoded(halves(65, 2)), size=16, mode="fast")[:, 0] == 255).all()
    one = np.full((1, 1, 3), 7, np.uint8)
    assert (image.extract(encoded(one), size=16, mode="fast") == 7).all()


def test_shrinking_averages():
    checker = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    square = image.extract(encoded(pixels), size=16, mode="exact").astype(int)
    assert np.abs(square - 127).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "tolerance"),
    [
        (376, 496, 1),
        (64, 64, 0),
        (96, 800, 1),
        (900, 700, 5),  # sides that 8 does not divide are rounded up: a shift of up to a fifth of a pixel
    ],
)
def test_fast_is_close_to_exact(height, width, tolerance):
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], axis=2)
    data = encoded(((waves + 1) * 127).astype(np.uint8), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
    fast = image.extract(data, size=48, mode="fast").astype(int)
    exact = image.extract(data, size=48, mode="exact").astype(int)
    assert np.abs(fast - exact).mean() <= tolerance


def test_fast_decodes_a_png_whole():
    data = encoded(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))
    assert np.array_equal(
        image.extract(data, size=32, mode="fast"), image.extract(data, size=32, mode="exact")
    )


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_any_size_is_taken_where_ingest_has_judged_it(monkeypatch, mode):
    monkeypatch.setattr(image.image, "MAX_PIXELS", 99)
    data = encoded(halves(10, 10))
    with pytest.raises(SampleError, match="image-too-large"):
        image.extract(data, size=16, mode=mode)
    assert image.extract(data, size=16, mode=mode, judged=True).shape == (16, 16, 3)


def test_facts_and_largest_size():
    assert image.facts(size=32, mode="fast") == {"dtype": "uint8", "shape": "[32, 32, 3]"}
    assert image.max_bytes(size=32, mode="fast") == 32 * 32 * 3


def test_what_is_no_picture_is_refused():
    with pytest.raises(SampleError, match="image-not"):
        image.extract(b"<html>", size=32, mode="fast")
