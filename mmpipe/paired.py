"""Two models on the same samples: how much one gains on the other, and whether that is more than chance.

A gain's p is the larger of two. The bootstrap resamples whole groups and knows any margin, but flatters where
few groups differ; the swap test gives each group's answers to the other model or not, by a fair coin (Noreen
1989, approximate randomisation), and is exact where the two are alike, but knows no margin except 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lgamma, log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpipe import metrics
from mmpipe.metrics import Floats, Ints

FLOOR = 1e-6
"""Least probability in a likelihood: a label that a model lacks costs it 13.8 nats, not all there are."""
TIE = 1e-12
"""Differences below this are none: rounding."""


@dataclass(frozen=True)
class Measure:
    """A figure of sums over samples; the higher, the better.

    `columns`: answers (N, …) and targets (N, …) → what to sum, (N, k). `value`: sums (n, k) → (n,).
    """

    columns: Callable[[Floats, NDArray[Any]], Floats]
    value: Callable[[Floats], Floats]

    def of(self, answers: Floats, target: NDArray[Any]) -> float:
        """The figure of one model."""
        return float(self.value(self.columns(answers, target).sum(axis=0, keepdims=True))[0])


@dataclass(frozen=True)
class Gain:
    """What a model gains on the one before, within an interval that leaves out alpha on each side.

    `p_no_more`: of a gain of the margin or less; `p_no_less`: of the margin or more. Both one-sided, never 0.
    """

    value: float
    low: float
    high: float
    p_no_more: float
    p_no_less: float


@dataclass(frozen=True)
class Recall:
    """Of one class, before and after, over its samples; p of a fall like this by chance."""

    label: int
    samples: int
    before: float
    after: float
    p: float

    @property
    def fall(self) -> float:
        """Above 0 where the recall went down."""
        return self.before - self.after


def predicted(probabilities: Floats) -> Ints:
    """(N, K) → the likeliest class of each, -1 for a row of zeros: no answer, which is always wrong."""
    return np.where(probabilities.any(axis=1), probabilities.argmax(axis=1), -1).astype(np.int64)


def gain(  # noqa: PLR0913  two models, a measure of them, and how to resample
    measure: Measure,
    pair: tuple[Floats, Floats],
    target: NDArray[Any],
    groups: ArrayLike,
    *,
    margin: float = 0.0,
    alpha: float = 0.05,
    resamples: int,
    seed: int = 0,
) -> Gain:
    """The second model of `pair`, (N, …) answers each, against the first. At least one sample.

    The swap test has its say in `p_no_more` of a margin of 0 or above and in `p_no_less` of 0 or below.
    """
    columns = np.concatenate([measure.columns(one, target) for one in pair], axis=1)
    half = columns.shape[1] // 2

    def difference(sums: Floats) -> Floats:
        return (measure.value(sums[:, half:]) - measure.value(sums[:, :half]))[:, None]

    value = float(difference(columns.sum(axis=0, keepdims=True))[0, 0])
    drawn = metrics.bootstrap(columns, groups, difference, resamples=resamples, seed=seed)[:, 0]
    swapped = _swap(columns, groups, difference, resamples=resamples, seed=seed)
    low, high = np.quantile(drawn, [alpha, 1 - alpha])
    no_more, no_less = _share(drawn <= margin + TIE), _share(drawn >= margin - TIE)
    if margin >= 0:
        no_more = max(no_more, _share(swapped >= value - TIE))
    if margin <= 0:
        no_less = max(no_less, _share(swapped <= value + TIE))
    return Gain(value, float(low), float(high), no_more, no_less)


def sign_test(gains: ArrayLike) -> float:
    """p that whole numbers, each + or - by a fair coin, add up to what these do or more; exact.

    Of single samples (+1, -1) this is McNemar's exact test, one-sided.
    """
    given = np.asarray(gains, np.int64)
    sizes, counts = np.unique(np.abs(given[given != 0]), return_counts=True)
    chances = np.ones(1)  # of each sum of those that fall on +
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        step = np.zeros(size * count + 1)
        step[::size] = _fair_binomial(count)
        chances = np.convolve(chances, step)
    return min(1.0, float(chances[int(given[given > 0].sum()) :].sum()))


def holm(p: ArrayLike) -> Floats:
    """Each p, adjusted so that the chance of any false alarm among all of them is kept (Holm 1979)."""
    given = np.asarray(p, np.float64)
    order = np.argsort(given, kind="stable")
    steps = np.minimum(1.0, given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def recalls(pair: tuple[Floats, Floats], target: Ints, groups: ArrayLike) -> list[Recall]:
    """Of each class that has samples, in order; `p` by the sign test over groups, after Holm over classes."""
    wanted = target[:, None] == np.arange(max(pair[0].shape[1], int(target.max()) + 1))
    before, after = (wanted & (predicted(one) == target)[:, None] for one in pair)
    return recalls_of(before, after, wanted, groups)


def recalls_of(
    before: NDArray[np.bool_], after: NDArray[np.bool_], wanted: NDArray[np.bool_], groups: ArrayLike
) -> list[Recall]:
    """The same of any marks (N, K): whether either model has a label of those that are `wanted`."""
    found, names = [], np.asarray(groups)
    for label in np.flatnonzero(wanted.any(axis=0)).tolist():
        inside = wanted[:, label]
        had, has = before[inside, label], after[inside, label]
        lost = had.astype(np.int64) - has
        p = sign_test(metrics.group_sums(lost[:, None], names[inside])[:, 0])
        found.append(Recall(label, len(lost), float(had.mean()), float(has.mean()), p))
    adjusted = holm([one.p for one in found]).tolist()
    return [replace(one, p=p) for one, p in zip(found, adjusted, strict=True)]


def calibration(bins: int) -> Measure:
    """The expected calibration error of `bins` bins, negated; samples without an answer are left out."""

    def columns(probabilities: Floats, target: Ints) -> Floats:
        sure, given = probabilities.max(axis=1), predicted(probabilities)
        gaps = np.zeros((len(target), bins + 1))
        gaps[np.arange(len(target)), metrics.bin_of(sure, bins)] = (given == target) - sure
        gaps[:, bins] = given >= 0
        return gaps

    def value(sums: Floats) -> Floats:
        return np.asarray(-np.abs(sums[:, :bins]).sum(axis=1) / np.maximum(sums[:, bins], 1))

    return Measure(columns, value)


def _swap(
    columns: Floats,
    groups: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    resamples: int,
    seed: int,
) -> Floats:
    """(resamples,): a statistic of [before, after] sums where a coin swaps the two in each group."""
    sums = metrics.group_sums(columns, groups)
    change = np.roll(sums, sums.shape[1] // 2, axis=1) - sums
    change = change[change.any(axis=1)]
    generator, total = np.random.default_rng([seed, 1]), sums.sum(axis=0)
    coins = (
        generator.integers(0, 2, (size, len(change)), np.int8)
        for size in metrics.blocks(resamples, len(change))
    )
    return np.concatenate([statistic(total + coin @ change)[:, 0] for coin in coins])


def _share(cases: NDArray[np.bool_]) -> float:
    return (1 + int(cases.sum())) / (1 + len(cases))


def _fair_binomial(count: int) -> Floats:
    """(count + 1,): chance of each number of heads."""
    logs = [lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in range(count + 1)]
    return np.exp(np.array(logs) - count * log(2))


def mean_columns(values: NDArray[np.bool_] | Floats) -> Floats:
    """(N,) → (N, 2): what to sum for a mean."""
    return np.stack([values, np.ones(len(values))], axis=1).astype(np.float64)


def mean(sums: Floats) -> Floats:
    """(n, 2) sums of `mean_columns` → (n,)."""
    return np.asarray(sums[:, 0] / sums[:, 1])


def _likelihood_columns(probabilities: Floats, target: Ints) -> Floats:
    chances = probabilities[np.arange(len(target)), target]
    return mean_columns(np.log(np.maximum(chances, FLOOR)))


def _f1_columns(probabilities: Floats, target: Ints) -> Floats:
    classes = np.arange(probabilities.shape[1])
    wanted, given = (of[:, None] == classes for of in (target, predicted(probabilities)))
    return np.concatenate([wanted & given, wanted, given], axis=1).astype(np.float64)


ACCURACY = Measure(lambda chances, target: mean_columns(predicted(chances) == target), mean)
MACRO_F1 = Measure(_f1_columns, lambda sums: metrics.mean_f1(*np.split(sums, 3, axis=1)))
LIKELIHOOD = Measure(_likelihood_columns, mean)
"""Mean log-likelihood, nats: the negated nll."""
