"""Numbers predicted for held-out samples → how far off they are, and how surely."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from mmpipe import findings, label_findings, metrics, paired, scorecard
from mmpipe.metrics import Estimate, Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.verdict import Contender, HeldOut, Rules

FIGURES = ("mae", "rmse", "r2", "spearman")
NAMES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "spearman": "Spearman's ρ"}


def ranks(values: ArrayLike) -> Floats:
    """1 for the least; equal values have the mean of their ranks."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def columns(given: Floats, wanted: Floats) -> Floats:
    """What to sum for all figures: (N, 10). Ranks are those among all of these samples."""
    error, centred = given - wanted, wanted - wanted.mean()
    one, other = (of - (len(of) + 1) / 2 for of in (ranks(given), ranks(wanted)))
    parts = [abs(error), error**2, centred, centred**2, one * other, one**2, other**2, np.ones(len(error))]
    return np.stack([*parts, one, other], axis=1)


def figures(sums: Floats) -> Floats:
    """(n, 10) sums → (n, 4): MAE, RMSE, R², Spearman's ρ; those of no variation are 0."""
    off, square, total, total2, product, one2, other2, count, one, other = sums.T
    variation = total2 - total**2 / count
    covariation = product - one * other / count
    spread = np.sqrt(np.maximum((one2 - one**2 / count) * (other2 - other**2 / count), 0))
    r2 = np.where(variation > 1e-12, 1 - square / np.maximum(variation, 1e-12), 0.0)
    rho = np.where(spread > 1e-12, covariation / np.maximum(spread, 1e-12), 0.0)
    return np.stack([off / count, np.sqrt(square / count), r2, rho], axis=1)


def measure(scores: Scores, *, mean: float, deviation: float, resamples: int) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    `mean` and `deviation`: of the train split's targets, of which outputs and targets are standardised. The
    bootstrap keeps the ranks of Spearman's ρ as they are among all samples.
    """
    inside = scorecard.scorable(scores)
    values = {name: mean + deviation * of[:, 0] for name, of in scores.logits.items()}
    wanted = mean + deviation * scores.target.astype(np.float64)
    found = _estimates(values[scores.full][inside], wanted[inside], scores.group[inside], resamples)
    subsets = {name: _of_subset(scores, name, given, wanted, resamples) for name, given in values.items()}
    result: Numbers = {
        **{key: value for name, one in found.items() for key, value in one.flat(name).items()},
        **scorecard.accounts(scores),
        "subsets": subsets,
    }
    if rival := scorecard.best_subset(subsets, "mae", sign=-1):
        shared = scores.scored(rival)
        off = {name: abs(values[name] - wanted)[shared] for name in (rival, scores.full)}
        less, p = metrics.gain(off[rival] - off[scores.full], scores.group[shared], resamples=resamples)
        result["fusion_gain"] = {"over": rival, **less.flat("mae"), "p": p, "samples": int(shared.sum())}
    rounded: Numbers = metrics.rounded(result)
    return rounded


def told(found: Mapping[str, Any], predictions: pa.Table) -> dict[str, Any]:
    """For people, as `findings` has it. `predictions`: of val and test."""
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    off = [row["prediction"] - float(row["target"]) for row in rows]
    points = {"x": [float(row["target"]) for row in rows], "y": [row["prediction"] for row in rows]}
    drawn = findings.chart(
        "scatter", "Predicted against actual, test", xlabel="actual", ylabel="predicted", **points
    )
    spread = findings.chart("histogram", "Errors, test", values=off, xlabel="predicted less actual")
    share = label_findings.subsets(found, {"mae": "MAE", "rmse": "RMSE"}, "number")
    return {
        "task": "regress",
        "kind": "number",
        "learns": "A number",
        "says": "A number",
        "index": [{"type": name, "name": NAMES[name], "value": found[name]} for name in FIGURES],
        "headline": [
            findings.tile(NAMES[name], found[name], "number", **findings.interval(found, name))
            for name in FIGURES
        ],
        "verdict": f"{(words := scorecard.verdict(dict(found), 'mae'))[:1].upper()}{words[1:]}",
        "sections": [
            findings.section("modalities", "What each modality adds", "", share),
            findings.section("errors", "Errors", "", [drawn, spread]),
        ],
        "exhibits": _exhibits(rows, off),
    }


def _exhibits(rows: list[dict[str, Any]], off: list[float]) -> list[dict[str, Any]]:
    ranked = sorted(zip(rows, off, strict=True), key=lambda pair: (-abs(pair[1]), pair[0]["id"]))
    parts = []
    for title, some, good in (("Farthest off", ranked, False), ("Nearest", ranked[::-1], True)):
        items = [
            findings.exhibit(
                row["id"], f"{row['prediction']:.4g}", f"off by {error:+.3g}", f"{float(row['target']):.4g}"
            )
            for row, error in some[: findings.MOST_EXHIBITS]
        ]
        parts.append({"title": title, "none": "There is no test sample.", "good": good, "items": items})
    return parts


def _estimates(given: Floats, wanted: Floats, group: NDArray[np.str_], resamples: int) -> dict[str, Estimate]:
    found = metrics.estimates(columns(given, wanted), group, figures, resamples=resamples)
    return dict(zip(FIGURES, found, strict=True))


def _of_subset(scores: Scores, name: str, given: Floats, wanted: Floats, resamples: int) -> Numbers:
    inside = scores.scored(name)
    if not inside.any():
        return {"samples": 0}
    found = _estimates(given[inside], wanted[inside], scores.group[inside], resamples)
    flat = {key: value for figure, one in found.items() for key, value in one.paired(figure).items()}
    return {**flat, "samples": int(inside.sum())}


def _answered(answers: Floats, target: Floats) -> Floats:
    """Without an answer, a model is taken to say the mean of the test samples' targets."""
    return np.where(np.isfinite(answers[:, 0]), answers[:, 0], target.mean())


def _of_errors(place: int, sign: float) -> paired.Measure:
    return paired.Measure(
        lambda answers, target: columns(_answered(answers, target), target),
        lambda sums: sign * figures(sums)[:, place],
    )


def _unanswered(one: Contender) -> int:
    return int((~np.isfinite(one.answers[:, 0])).sum())


def _notes(_test: HeldOut, one: Contender) -> list[str]:
    silent = _unanswered(one)
    words = f"{one.name} has no answer to {silent} test samples, of which it counts as saying the mean."
    return [words] if silent else []


RULES = Rules(
    headline="mae",
    measures={"mae": _of_errors(0, -1.0), "rmse": _of_errors(1, -1.0), "r2": _of_errors(2, 1.0)},
    lower=frozenset({"mae", "rmse"}),
    extra=lambda one, _test, _asked: {"unanswered": _unanswered(one)},
    notes=_notes,
)
"""For models that predict a number: (N, 1), NaN = no answer."""
