"""The perceptual hash of a picture: near-identical pictures differ in few of its 64 bits."""

import numpy as np
from numpy.typing import NDArray

from mmpipe.media.image import luma_square

_SIDE = 32
_BAND = 8


def phash(rgb: NDArray[np.uint8]) -> int:
    """64-bit DCT hash (Zauner 2010) of uint8 RGB (height, width, 3); 0 = a flat picture, like no other.

    Luma, averaged to 32 × 32 on a white square. Of its type-II DCT the lowest 8 × 8 coefficients: a bit
    is set where one exceeds their median (the mean brightness has no bit). Coefficients are rounded, so that
    no bit hangs on the last digit of a float.
    """
    basis = _dct_basis()
    small = luma_square(rgb, _SIDE).astype(np.float64)
    low = np.round(basis @ small @ basis.T, 3).ravel()
    if np.abs(low[1:]).max() < 1.0:
        return 0
    bits = low > np.median(low[1:])
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _dct_basis() -> NDArray[np.float64]:
    """(8, 32): the lowest rows of the orthonormal type-II DCT."""
    angle = np.pi / _SIDE * np.arange(_BAND)[:, None] * (np.arange(_SIDE) + 0.5)
    basis: NDArray[np.float64] = np.cos(angle) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    return basis
