"""A picture's bytes → a square of uint8 RGB pixels, the whole picture inside it."""

import json

import cv2
import numpy as np
from numpy.typing import NDArray

from mmpipe.media import image

WHITE = 255


def extract(data: bytes, *, size: int, mode: str, judged: bool = False) -> NDArray[np.uint8]:
    """uint8 RGB of shape (size, size, 3): the picture scaled to fit, centred on white.

    `fast` decodes a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 of its size that is still large enough;
    `exact` decodes all of it. `judged`: ingest has accepted these very bytes, so any number of pixels that it
    can allow is taken. Raises SampleError `image-*`.
    """
    limit = image.MOST_PIXELS if judged else image.MAX_PIXELS
    at_least = _short_side(data, size, limit) if mode == "fast" else None
    return letterbox(image.decode(data, max_pixels=limit, at_least=at_least), size)


def letterbox(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(height, width, 3) → (size, size, 3): aspect kept, averaged when shrunk, white around it."""
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(pixels, (new_width, new_height), interpolation=method)
    square = np.full((size, size, 3), WHITE, np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = scaled
    return square


def facts(*, size: int, **_: object) -> dict[str, str]:
    """Metadata of the feature table."""
    return {"dtype": "uint8", "shape": json.dumps([size, size, 3])}


def max_bytes(*, size: int, **_: object) -> int:
    """Bytes of the largest feature."""
    return size * size * 3


def _short_side(data: bytes, size: int, max_pixels: int) -> int:
    """Pixels of the shorter side in the square."""
    shown = image.header(data, max_pixels=max_pixels).shown
    return max(1, round(size * min(shown) / max(shown)))
