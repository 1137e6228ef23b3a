"""How good predictions are, and how surely: plain numpy on whole arrays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 4_000_000
"""Numbers of one block of resamples: bounds the bootstrap's memory (32 MB)."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % percentile-bootstrap interval."""

    value: float
    low: float
    high: float

    def flat(self, name: str) -> dict[str, float]:
        """`name`, `name_low`, `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def paired(self, name: str) -> dict[str, float | list[float]]:
        """`name`, and `name_95` with the two bounds."""
        return {name: self.value, f"{name}_95": [self.low, self.high]}


@dataclass(frozen=True)
class PerClass:
    """Arrays of (classes,); precision, recall and F1 are 0 where they have no denominator."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


@dataclass(frozen=True)
class Reliability:
    """Arrays of (bins,), equal-width bins of confidence over (0, 1]; means are 0 in empty bins."""

    confidence: Floats
    accuracy: Floats
    count: Ints


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities of (..., classes) scores, float64."""
    scores = np.asarray(logits, np.float64) / temperature
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Share of equal entries; 0 for none."""
    equal = np.asarray(targets) == np.asarray(predictions)
    return float(equal.mean()) if equal.size else 0.0


def confusion(targets: ArrayLike, predictions: ArrayLike, classes: int) -> Ints:
    """(classes, classes) counts: row = target, column = prediction."""
    cells = np.asarray(targets, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class(matrix: Ints) -> PerClass:
    """Precision, recall, F1 and support of each class of a confusion matrix."""
    hits, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = _ratio(2 * hits, support + predicted)
    return PerClass(_ratio(hits, predicted), _ratio(hits, support), f1, support)


def macro_f1(matrix: Ints) -> float:
    """Mean F1 over the classes that occur as target or prediction, as scikit-learn has it."""
    counts = (np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0))
    return float(mean_f1(*(count[None].astype(np.float64) for count in counts))[0])


def mean_f1(hits: Floats, support: Floats, predicted: Floats) -> Floats:
    """(n, classes) counts of n confusion matrices → (n,) mean F1 over the classes that occur in each."""
    total = support + predicted
    return _ratio(_ratio(2 * hits, total).sum(axis=1), (total > 0).sum(axis=1))


def nll(probabilities: Floats, targets: ArrayLike) -> float:
    """Mean negative log-likelihood, nats; 0 for no samples."""
    wanted = np.asarray(targets, np.int64)
    if not len(wanted):
        return 0.0
    likelihood = probabilities[np.arange(len(wanted)), wanted]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def bin_of(confidence: Floats, bins: int) -> Ints:
    """In which of `bins` equal-width bins over (0, 1], open below, each confidence lies."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int) -> Reliability:
    """Mean confidence and accuracy of the samples in each of `bins` equal-width bins, open below."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    index = bin_of(sure, bins)
    count = np.bincount(index, minlength=bins)
    mean_sure, mean_right = (_ratio(np.bincount(index, of, bins), count) for of in (sure, right))
    return Reliability(mean_sure, mean_right, count.astype(np.int64))


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int) -> float:
    """Mean |accuracy − confidence| of the bins, weighted by their counts (Naeini et al. 2015); 0 for none."""
    found = reliability(confidence, correct, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.average(gaps, weights=found.count)) if found.count.any() else 0.0


def bootstrap(
    columns: ArrayLike,
    groups: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    resamples: int,
    seed: int = 0,
) -> Floats:
    """A statistic of sums over samples, on resamples of whole groups → (resamples, statistics).

    `columns` is (samples, k), `groups` (samples,) of any sortable values; `statistic` takes (n, k) sums and
    gives (n, statistics). Whole groups are drawn, as near-duplicates are not independent samples.
    """
    sums = group_sums(columns, groups)
    generator, share = np.random.default_rng(seed), np.full(len(sums), 1 / len(sums))
    draws = (generator.multinomial(len(sums), share, size=size) for size in blocks(resamples, len(sums)))
    return np.concatenate([statistic(draw @ sums) for draw in draws])


def draws(groups: ArrayLike, *, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """How often each sample counts in each resample of whole groups: blocks of (n, samples)."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    generator, share = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    for size in blocks(resamples, len(index)):
        yield generator.multinomial(len(names), share, size=size)[:, index].astype(np.float64)


def estimates(
    columns: ArrayLike,
    groups: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    resamples: int,
    seed: int = 0,
) -> list[Estimate]:
    """Each of a statistic's values of all samples, with its interval; arguments as of `bootstrap`."""
    values = statistic(np.asarray(columns, np.float64).sum(axis=0, keepdims=True))[0]
    drawn = bootstrap(columns, groups, statistic, resamples=resamples, seed=seed)
    return [estimate(value, part) for value, part in zip(values, drawn.T, strict=True)]


def gain(columns: ArrayLike, groups: ArrayLike, *, resamples: int, seed: int = 0) -> tuple[Estimate, float]:
    """The mean of paired differences (N,), and p of no gain (one-sided), as of `accuracy_gain`."""
    given = np.asarray(columns, np.float64)
    return accuracy_gain(given, np.zeros(len(given)), groups, resamples=resamples, seed=seed)


def average_precision(scores: Floats, wanted: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Σ (R_n - R_n-1) P_n over the scores from high to low, equal ones at once; NaN without a positive.

    `scores`: (N,); `wanted`: (N,) of 0 and 1; `weights`: (n, N), how often each sample counts; → (n,), or
    (1,) without weights.
    """
    counts = np.ones((1, len(scores))) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    counts = counts[:, order]
    hits = np.cumsum(counts * np.asarray(wanted, np.float64)[order], axis=1)[:, last]
    precision = _ratio(hits, np.cumsum(counts, axis=1)[:, last])
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((gained * precision).sum(axis=1) / hits[:, -1])


def group_sums(columns: ArrayLike, groups: ArrayLike) -> Floats:
    """(samples, k) summed within each group → (groups, k), in the order of the groups' names."""
    table = np.asarray(columns, np.float64)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, index, table)
    return sums


def blocks(resamples: int, width: int) -> list[int]:
    """How many resamples to draw at once, so that a block of them holds about `BLOCK` numbers."""
    step = max(1, BLOCK // max(1, width))
    return [min(step, resamples - start) for start in range(0, resamples, step)]


def accuracy_and_macro_f1(
    targets: ArrayLike,
    predictions: ArrayLike,
    groups: ArrayLike,
    *,
    classes: int,
    resamples: int,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    """Both with their intervals, from the same resamples. At least one sample."""
    wanted, given = (np.eye(classes)[np.asarray(of, np.int64)] for of in (targets, predictions))
    columns = np.concatenate([wanted * given, wanted, given], axis=1)

    def both(sums: Floats) -> Floats:
        hits, support, predicted = np.split(sums, 3, axis=1)
        return np.stack([hits.sum(axis=1) / support.sum(axis=1), mean_f1(hits, support, predicted)], axis=1)

    values = both(columns.sum(axis=0, keepdims=True))[0]
    drawn = bootstrap(columns, groups, both, resamples=resamples, seed=seed)
    found = [estimate(value, draws) for value, draws in zip(values, drawn.T, strict=True)]
    return found[0], found[1]


def accuracy_gain(
    correct: ArrayLike, correct_before: ArrayLike, groups: ArrayLike, *, resamples: int, seed: int = 0
) -> tuple[Estimate, float]:
    """Accuracy minus accuracy before, of the same samples, paired; and p of no gain (one-sided).

    p is the share of resamples without a gain, (1 + count) / (1 + resamples): never 0.
    """
    gain = np.asarray(correct, np.float64) - np.asarray(correct_before, np.float64)
    columns = np.stack([gain, np.ones(len(gain))], axis=1)

    def mean(sums: Floats) -> Floats:
        return sums[:, :1] / sums[:, 1:]

    drawn = bootstrap(columns, groups, mean, resamples=resamples, seed=seed)[:, 0]
    p = (1 + int((drawn <= 1e-12).sum())) / (1 + resamples)
    return estimate(float(gain.mean()), drawn), p


def rounded(value: Any) -> Any:
    """A tree of lists and dicts with every float rounded to 6 digits, as JSON shows them."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def estimate(value: float, draws: Floats) -> Estimate:
    """A value with the interval of its resamples."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Elementwise quotient, 0 where the denominator is 0."""
    bottom = np.asarray(denominator, np.float64)
    quotient: Floats = np.divide(numerator, bottom, out=np.zeros_like(bottom), where=bottom != 0)
    return quotient
