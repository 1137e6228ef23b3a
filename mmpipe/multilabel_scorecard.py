"""Logits of held-out samples → how good the sets of labels are that they give, how sure, how calibrated."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmpipe import metrics, paired, scorecard
from mmpipe.metrics import Estimate, Floats
from mmpipe.scorecard import Numbers, Scores

FIGURES = ("micro_f1", "macro_f1", "subset_accuracy")


def decided(logits: Floats, temperature: float, thresholds: Sequence[float]) -> tuple[Floats, Floats]:
    """(N, K) calibrated probabilities, and 1 where one reaches its label's threshold."""
    chances = np.asarray(1 / (1 + np.exp(-np.clip(logits / temperature, -700, 700))))
    return chances, (chances >= np.asarray(thresholds)).astype(np.float64)


def columns(marks: Floats, target: NDArray[np.float32]) -> Floats:
    """What to sum for F1 and subset accuracy: (N, 3 K + 2)."""
    exact = (marks == target).all(axis=1)
    parts = [marks * target, target, marks, exact[:, None], np.ones((len(marks), 1))]
    return np.concatenate(parts, axis=1).astype(np.float64)


def figures(sums: Floats) -> Floats:
    """(n, 3 K + 2) sums → (n, 3): micro F1, macro F1 over the labels that occur, subset accuracy."""
    hits, wanted, given = np.split(sums[:, :-2], 3, axis=1)
    total = (wanted + given).sum(axis=1)
    micro = 2 * hits.sum(axis=1) / np.maximum(total, 1)
    return np.stack([micro, metrics.mean_f1(hits, wanted, given), sums[:, -2] / sums[:, -1]], axis=1)


MICRO_F1, MACRO_F1, SUBSET_ACCURACY = (
    paired.Measure(columns, lambda sums, place=place: figures(sums)[:, place])  # type: ignore[misc]
    for place in range(3)
)


def measure(
    scores: Scores,
    labels: Sequence[str],
    *,
    temperature: float,
    thresholds: Sequence[float],
    resamples: int,
    bins: int,
) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    `_low`, `_high` and `_95` bound 95 % bootstrap intervals; `map` is the mean over labels of the average
    precision; `ece` is over every label of every sample, calibrated; `ece_raw` is not. Labels that train
    lacks are no labels here.
    """
    inside = scorecard.scorable(scores)
    target, group = scores.target[inside], scores.group[inside]
    logits = scores.logits[scores.full][inside]
    chances, marks = decided(logits, temperature, thresholds)
    raw, _ = decided(logits, 1.0, thresholds)
    precision, per_label = _precision(chances, target, group, resamples)
    subsets = {
        name: _of_subset(scores, name, decided(of, temperature, thresholds)[1], resamples)
        for name, of in scores.logits.items()
    }
    result: Numbers = {
        **{
            key: value
            for name, one in _f1(target, marks, group, resamples)
            for key, value in one.flat(name).items()
        },
        **precision.flat("map"),
        "ece": metrics.expected_calibration_error(chances.ravel(), target.ravel(), bins),
        "ece_raw": metrics.expected_calibration_error(raw.ravel(), target.ravel(), bins),
        "temperature": temperature,
        "calibration_bins": bins,
        **scorecard.accounts(scores),
        "per_class": _per_label(target, marks, labels, per_label, thresholds),
        "subsets": subsets,
    }
    if rival := scorecard.best_subset(subsets, "micro_f1"):
        pair = tuple(
            decided(scores.logits[name], temperature, thresholds)[1] for name in (rival, scores.full)
        )
        result["fusion_gain"] = _gain(scores, rival, (pair[0], pair[1]), resamples)
    rounded: Numbers = metrics.rounded(result)
    return rounded


def _f1(
    target: NDArray[np.float32], marks: Floats, group: NDArray[np.str_], resamples: int
) -> list[tuple[str, Estimate]]:
    found = metrics.estimates(columns(marks, target), group, figures, resamples=resamples)
    return list(zip(FIGURES, found, strict=True))


def _precision(
    chances: Floats, target: NDArray[np.float32], group: NDArray[np.str_], resamples: int
) -> tuple[Estimate, list[float | None]]:
    """The mean average precision, and that of each label; None of one without a positive sample."""
    some = [k for k in range(target.shape[1]) if target[:, k].any()]
    each = {k: float(metrics.average_precision(chances[:, k], target[:, k])[0]) for k in some}
    if not some:
        return Estimate(0.0, 0.0, 0.0), [None] * target.shape[1]
    drawn = []
    for weights in metrics.draws(group, resamples=resamples):
        block = [metrics.average_precision(chances[:, k], target[:, k], weights) for k in some]
        drawn.append(np.nanmean(np.stack([np.append(one, 0.0) for one in block]), axis=0)[:-1])
    whole = metrics.estimate(float(np.mean(list(each.values()))), np.concatenate(drawn))
    return whole, [each.get(k) for k in range(target.shape[1])]


def _per_label(
    target: NDArray[np.float32],
    marks: Floats,
    labels: Sequence[str],
    precision: Sequence[float | None],
    thresholds: Sequence[float],
) -> list[Numbers]:
    rows = []
    for k, label in enumerate(labels):
        hits, wanted, given = float((marks[:, k] * target[:, k]).sum()), target[:, k].sum(), marks[:, k].sum()
        rows.append(
            {
                "label": label,
                "precision": hits / float(max(given, 1)),
                "recall": hits / float(max(wanted, 1)),
                "f1": 2 * hits / float(max(wanted + given, 1)),
                "average_precision": precision[k],
                "threshold": float(thresholds[k]),
                "support": int(wanted),
            }
        )
    return rows


def _of_subset(scores: Scores, subset: str, marks: Floats, resamples: int) -> Numbers:
    inside = scores.scored(subset)
    if not inside.any():
        return {"samples": 0}
    found = _f1(scores.target[inside], marks[inside], scores.group[inside], resamples)
    flat = {key: value for name, one in found for key, value in one.paired(name).items()}
    return {**flat, "samples": int(inside.sum())}


def _gain(scores: Scores, rival: str, pair: tuple[Floats, Floats], resamples: int) -> Numbers:
    """Fusion against one subset on the samples that both score, paired."""
    shared = scores.scored(rival)
    before, after = (of[shared] for of in pair)
    found = paired.gain(
        MICRO_F1,
        (before, after),
        scores.target[shared],
        scores.group[shared],
        alpha=0.025,
        resamples=resamples,
    )
    flat = Estimate(found.value, found.low, found.high).flat("micro_f1")
    return {"over": rival, **flat, "p": found.p_no_more, "samples": int(shared.sum())}
