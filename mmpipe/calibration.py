"""The one number that turns over-confident scores into honest ones: the temperature."""

import numpy as np
from numpy.typing import ArrayLike

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature: scores that separate the classes perfectly would ask for 0."""


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T that minimises the cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    `logits` is (samples, classes), `targets` (samples,) whole numbers; held-out samples, never the training
    ones. The loss is convex in 1/T, so its slope is bisected: float64, no start value, no randomness.
    Returns 1.0 for no samples.
    """
    scores = np.asarray(logits, np.float64)
    wanted = np.asarray(targets, np.int64)
    if not len(wanted):
        return 1.0
    scores = scores - scores.max(axis=1, keepdims=True)
    mean_wanted = scores[np.arange(len(wanted)), wanted].mean()
    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(60):
        middle = (cold + hot) / 2
        if _expected_score(scores, float(np.exp(-middle))) > mean_wanted:
            cold = middle  # too sure: the scores it expects are higher than those the targets got
        else:
            hot = middle
    return float(np.exp((cold + hot) / 2))


def fit_binary_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T that minimises the binary cross-entropy of sigmoid(logits / T), of any number of labels.

    Both are (samples, labels). As `fit_temperature`: bisected, 1.0 for no samples.
    """
    scores, wanted = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    if not scores.size:
        return 1.0
    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(60):
        middle = (cold + hot) / 2
        chances = 1 / (1 + np.exp(-np.clip(scores * np.exp(-middle), -700, 700)))
        if ((chances - wanted) * scores).mean() > 0:
            cold = middle  # too sure
        else:
            hot = middle
    return float(np.exp((cold + hot) / 2))


def _expected_score(scores: np.ndarray, inverse_temperature: float) -> float:
    """Mean over samples of the score under softmax(scores × inverse_temperature)."""
    weights = np.exp(scores * inverse_temperature)
    return float(((weights * scores).sum(axis=1) / weights.sum(axis=1)).mean())
