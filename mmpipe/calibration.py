"""The one number that turns over-confident scores into honest ones: the temperature."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature."""


def fit_temperature(logits: ArrayLike, targets: ArrayLike, *, doubt: bool = False) -> float:
    """The T that minimises the cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    `logits` is (samples, classes), `targets` (samples,) whole numbers; held-out samples, never the training
    ones. The loss is convex in 1/T, so its slope is bisected: float64, no start value, no randomness.
    Returns 1.0 for no samples.

    Without any error among n samples that T is 0: a certainty that n samples cannot give. There the result
    is `COLDEST`, or with `doubt` the T whose mean confidence is (n + 1) / (n + 2), the accuracy that
    Laplace's rule of succession expects. Where there is an error, `doubt` changes nothing.
    """
    scores = np.asarray(logits, np.float64)
    wanted = np.asarray(targets, np.int64)
    if not len(wanted):
        return 1.0
    scores = scores - scores.max(axis=1, keepdims=True)
    if doubt and (scores.argmax(axis=1) == wanted).all():
        return _without_errors(lambda inverse: 1 / np.exp(scores * inverse).sum(axis=1), len(wanted))
    mean_wanted = scores[np.arange(len(wanted)), wanted].mean()
    return _bisected(lambda inverse: _expected_score(scores, inverse) > mean_wanted)


def fit_binary_temperature(logits: ArrayLike, targets: ArrayLike, *, doubt: bool = False) -> float:
    """The T that minimises the binary cross-entropy of sigmoid(logits / T), of any number of labels.

    Both are (samples, labels). As `fit_temperature`: bisected, 1.0 for no samples; with `doubt`, each
    label of each sample counts as one of the n.
    """
    scores, wanted = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    if not scores.size:
        return 1.0
    if doubt and ((scores > 0) == (wanted > 0.5)).all():
        return _without_errors(lambda inverse: _sigmoid(np.abs(scores) * inverse), scores.size)
    return _bisected(lambda inverse: ((_sigmoid(scores * inverse) - wanted) * scores).mean() > 0)


def _bisected(too_sure: Callable[[float], object]) -> float:
    """The T between the bounds from which on `too_sure`, asked with 1/T, is no longer true."""
    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(60):
        middle = (cold + hot) / 2
        if too_sure(float(np.exp(-middle))):
            cold = middle
        else:
            hot = middle
    return float(np.exp((cold + hot) / 2))


def _without_errors(confidence: Callable[[float], NDArray[np.float64]], count: int) -> float:
    """The T at which the mean confidence is what `count` right answers in a row make believable."""
    return _bisected(lambda inverse: confidence(inverse).mean() > (count + 1) / (count + 2))


def _sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(scores, -700, 700)))


def _expected_score(scores: NDArray[np.float64], inverse_temperature: float) -> float:
    """Mean over samples of the score under softmax(scores × inverse_temperature)."""
    weights = np.exp(scores * inverse_temperature)
    return float(((weights * scores).sum(axis=1) / weights.sum(axis=1)).mean())
