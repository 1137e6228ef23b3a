"""How far apart two samples of a distribution are, and whether by more than chance: shares and numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmpipe.metrics import Floats, Ints

RESAMPLES = 10_000
TIE = 1e-12
"""A chi-square that is less by so small a part is equal: rounding."""
_AT_ONCE = 1_000_000
"""Numbers of one block of resamples: bounds the memory (8 MB)."""
_TERMS = 100


@dataclass(frozen=True)
class Shift:
    """`distance`: 0 for the same distribution, 1 at most. `p`: of one as large or larger by chance."""

    distance: float
    p: float


def total_variation(old: ArrayLike, new: ArrayLike) -> float:
    """Half the sum of |differences of shares| of two (K,) counts: the share that would have to be another.

    A side without samples has no shares.
    """
    counts = (np.asarray(of, np.float64) for of in (old, new))
    parts = [of / max(1.0, of.sum()) for of in counts]
    return float(np.abs(parts[1] - parts[0]).sum() / 2)


def shares(
    old: Mapping[str, int], new: Mapping[str, int], *, resamples: int = RESAMPLES, seed: int = 0
) -> Shift:
    """Counts by name: total variation, and the permutation test of Pearson's chi-square.

    It holds for counts however small. p is of `resamples` random divisions of all samples among the two, this
    one among them: never 0.
    """
    names = sorted(old.keys() | new.keys())
    before, after = (np.array([of.get(name, 0) for name in names], np.int64) for of in (old, new))
    assert before.sum() and after.sum(), "both sides have samples"
    pooled, size = before + after, int(after.sum())
    expected = pooled * (size / pooled.sum())
    found = float(_chi_square(after[None], expected)[0])
    random, left, reached = np.random.default_rng(seed), resamples, 1
    while left:
        block = min(left, max(1, _AT_ONCE // len(names)))
        drawn = random.multivariate_hypergeometric(pooled, size, size=block)
        reached += int((_chi_square(drawn, expected) >= found * (1 - TIE)).sum())
        left -= block
    return Shift(total_variation(before, after), reached / (resamples + 1))


def numbers(old: ArrayLike, new: ArrayLike) -> Shift:
    """Numbers: the largest gap between both shares below a value, and the two-sample Kolmogorov–Smirnov test.

    p by the asymptotic distribution with Stephens' correction (1970) for samples as few as 4 on each side;
    where values are equal it is too large rather than too small.
    """
    _, below, then = gap(old, new)
    sizes = [np.size(of) for of in (old, new)]
    root = math.sqrt(sizes[0] * sizes[1] / sum(sizes))
    distance = abs(then - below)
    return Shift(distance, kolmogorov((root + 0.12 + 0.11 / root) * distance))


def gap(old: ArrayLike, new: ArrayLike) -> tuple[float, float, float]:
    """The least value at which two samples' shares of numbers up to it differ most, and those two shares."""
    before, after = (np.sort(np.asarray(of, np.float64)) for of in (old, new))
    assert len(before) and len(after), "both sides have samples"
    values = np.unique(np.concatenate([before, after]))
    shares = [np.searchsorted(of, values, side="right") / len(of) for of in (before, after)]
    most = int(np.abs(shares[1] - shares[0]).argmax())
    return float(values[most]), float(shares[0][most]), float(shares[1][most])


def kolmogorov(value: float) -> float:
    """Of Kolmogorov's distribution, the chance of more than `value`."""
    if value < 0.2:  # there the series converges slowly, to 1 within 1e-12
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * value * value) for k in range(1, _TERMS))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def holm(chances: Sequence[float]) -> list[float]:
    """p of each of several tests, so that the chance of any false alarm stays below the limit (Holm 1979)."""
    adjusted, highest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=lambda n: chances[n])):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = highest
    return adjusted


def _chi_square(drawn: Ints, expected: Floats) -> Floats:
    """(n, K) counts of one side, (K,) expected → (n,); the other side adds the same, up to a factor."""
    return np.asarray(((drawn - expected) ** 2 / expected).sum(axis=1))
