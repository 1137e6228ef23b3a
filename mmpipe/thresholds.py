"""From which probability on a label is given: the threshold of the best F1 on held-out samples."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

USUAL = 0.5
FEWEST = 5
"""Positive samples that a label needs for a threshold of its own; else it has the common one."""


def best_threshold(chances: ArrayLike, wanted: ArrayLike) -> float:
    """The threshold t for which "chance ≥ t" has the highest F1; `USUAL` without a positive sample.

    It lies half-way between the two chances that it parts; of several, the one nearest to `USUAL`.
    """
    scores, marks = np.asarray(chances, np.float64).ravel(), np.asarray(wanted, np.float64).ravel()
    if not marks.any():
        return USUAL
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(marks[order])
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each run of equal chances
    f1 = 2 * hits[last] / (last + 1 + hits[-1])
    below = np.append(scores[last[:-1] + 1], 0.0)
    middle = (scores[last] + below) / 2
    best = middle[f1 >= f1.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - USUAL))])


def fit_thresholds(chances: NDArray[np.float64], wanted: ArrayLike) -> list[float]:
    """One a label of (N, K) chances, rounded to 6 digits; `USUAL` for no samples."""
    marks = np.asarray(wanted)
    if not len(marks):
        return [USUAL] * chances.shape[1]
    common = best_threshold(chances, marks)
    own = [
        best_threshold(chances[:, k], marks[:, k]) if marks[:, k].sum() >= FEWEST else common
        for k in range(chances.shape[1])
    ]
    return [round(one, 6) for one in own]
