"""Logits of held-out samples → how good, how sure, how calibrated, and what each modality adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmpipe import findings, metrics, schema, sheets
from mmpipe.errors import InvalidError

Numbers = dict[str, Any]
"""A tree of numbers and names, as JSON has it."""


@dataclass(frozen=True)
class Scores:
    """N samples, K outputs. `logits`: {subset: float64 (N, K)}; a subset is named "audio", "audio+image", …

    Of sequences float64 (N, T, K), NaN past the end of each. `target`: (N, …), as `targets.encode` has it,
    `cells`: as it is stored. `present`: {modality: bool (N,)}. `group`: (N,) names; copies share one.
    `dropped`: samples left out because a feature could not be computed. `words`: what a sample's text says,
    as far as the model reads it.
    """

    split: str
    ids: list[str]
    target: NDArray[Any]
    group: NDArray[np.str_]
    present: dict[str, NDArray[np.bool_]]
    logits: dict[str, NDArray[np.float64]]
    dropped: int
    cells: Sequence[str | None] = ()
    words: Sequence[str] = ()

    @property
    def full(self) -> str:
        """The subset with every modality."""
        return "+".join(sorted(self.present))

    def scored(self, subset: str) -> NDArray[np.bool_]:
        """(N,): the samples that have a modality of the subset; the others are left out of its metrics."""
        some = np.zeros(len(self.ids), np.bool_)
        for modality in subset.split("+"):
            some |= self.present[modality]
        return some

    def correct(self, subset: str) -> NDArray[np.bool_]:
        """(N,): whether the subset's prediction is the target, of one label."""
        return np.asarray(self.logits[subset].argmax(axis=1) == self.target)


def subsets_of(modalities: Sequence[str]) -> list[str]:
    """Every non-empty subset, small ones first: "audio", "image", …, "audio+image+text"."""
    names = sorted(modalities)
    return ["+".join(some) for size in range(1, len(names) + 1) for some in combinations(names, size)]


def measure(
    scores: Scores, labels: Sequence[str], *, temperature: float, resamples: int, bins: int
) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    The top level is about all modalities together. `_low`, `_high` and `_95` bound 95 % bootstrap intervals;
    `ece` and `nll` are calibrated by `temperature`, `ece_raw` and `nll_raw` are not; `calibration_bins` are
    those of both errors. The intervals of subsets and the table of classes are lists, which
    `dvc metrics show` leaves out: else it has a hundred columns. Raises InvalidError
    `split-too-few` where there is nothing to measure on.
    """
    inside = scorable(scores)
    target, raw = scores.target[inside], scores.logits[scores.full][inside]
    accuracy, macro_f1 = _estimates(scores, scores.full, len(labels), resamples)
    result = {
        **accuracy.flat("accuracy"),
        **macro_f1.flat("macro_f1"),
        **_calibration(raw, target, 1.0, bins, suffix="_raw"),
        **_calibration(raw, target, temperature, bins),
        "temperature": temperature,
        "calibration_bins": bins,
        **accounts(scores),
        "per_class": _per_class(metrics.confusion(target, raw.argmax(axis=1), len(labels)), labels),
        "subsets": {name: _of_subset(scores, name, len(labels), resamples) for name in scores.logits},
    }
    if rival := best_rival(scores):
        result["fusion_gain"] = _gain(scores, rival, resamples)
    rounded: Numbers = metrics.rounded(result)
    return rounded


def scorable(scores: Scores) -> NDArray[np.bool_]:
    """(N,): the samples that have a modality of the model.

    Raises InvalidError `split-too-few` where there is none.
    """
    inside = scores.scored(scores.full)
    if not inside.any():
        fix = f"raise split.{scores.split}_fraction, or add samples"
        raise InvalidError("split-too-few", f"no {scores.split} sample can be scored", fix=fix)
    return inside


def accounts(scores: Scores) -> Numbers:
    """How many samples are scored, lack every modality of the model, or have no features."""
    inside = scores.scored(scores.full)
    return {
        "samples": int(inside.sum()),
        "samples_left_out": int((~inside).sum()),
        "samples_dropped": scores.dropped,
    }


def best_rival(scores: Scores) -> str | None:
    """The smaller subset with the highest accuracy, among those that can score half of the samples or more.

    It is chosen on the samples that it is then measured on, which flatters it: fusion has the harder side.
    None for a model of one modality.
    """
    found = {}
    for name in scores.logits:
        inside = scores.scored(name)
        found[name] = {"samples": int(inside.sum())}
        if inside.any():
            found[name]["accuracy"] = scores.correct(name)[inside].mean()
    return best_subset(found, "accuracy")


def best_subset(subsets: Numbers, name: str, *, sign: int = 1) -> str | None:
    """The same of any figure of `subsets`, whose last is the full one; `sign` -1: the lowest is the best."""
    *smaller, full = subsets
    total = subsets[full]["samples"]
    some = {subset: subsets[subset] for subset in smaller if subsets[subset]["samples"]}
    rivals = {subset: (2 * one["samples"] >= total, sign * one[name]) for subset, one in some.items()}
    return max(rivals, key=lambda subset: rivals[subset]) if rivals else None


def verdict(found: Numbers, name: str = "accuracy") -> str:
    """One sentence: does fusion beat its best subset? `name`: the gain's figure, the higher the better."""
    if "fusion_gain" not in found:
        return "one modality: nothing is fused"
    gain = found["fusion_gain"]
    value, low, high = (gain[f"{name}{end}"] for end in ("", "_low", "_high"))
    word = "beats" if low > 0 else "loses to" if high < 0 else "cannot be told from"
    interval = f"{findings.signed(value)} [{findings.signed(low)}, {findings.signed(high)}]"
    return f"fusion {word} its best subset, {gain['over']}: {interval}, p = {gain['p']:.3g}"


def summary(found: Numbers) -> str:
    """The stage's row accounting and headline, in one line."""
    interval = f"[{found['accuracy_low']:.3f}, {found['accuracy_high']:.3f}]"
    return f"{counted(found)}; accuracy {found['accuracy']:.3f} {interval}; {verdict(found)}"


def counted(found: Numbers) -> str:
    """The stage's row accounting."""
    left_out, dropped = found["samples_left_out"], found["samples_dropped"]
    rows = f"{found['samples'] + left_out + dropped} test samples = {found['samples']} scored"
    return f"evaluate: {rows} + {left_out} without a modality of the model + {dropped} without features"


def predictions(all_scores: Sequence[Scores], labels: list[str], *, temperature: float) -> pa.Table:
    """`schema.predictions`, sorted by id: each sample with all modalities that it has, calibrated."""
    rows = [row for scores in all_scores for row in _prediction_rows(scores, labels, temperature)]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema=schema.predictions(labels))


def write_plots(folder: Path, scores: Scores, found: Numbers, labels: Sequence[str], *, bins: int) -> None:
    """For DVC: `confusion.csv` (a row a sample), `calibration.csv` (a bin), `subsets.csv` (a subset)."""
    inside = scores.scored(scores.full)
    target, raw = scores.target[inside], scores.logits[scores.full][inside]
    names = [(labels[t], labels[p]) for t, p in zip(target, raw.argmax(axis=1), strict=True)]
    sheets.write(folder / "confusion.csv", ["actual", "predicted"], names)
    write_calibration(folder, _reliability(raw, target, found["temperature"], bins))
    write_subsets(folder, found["subsets"], "accuracy")


def write_calibration(folder: Path, bars: metrics.Reliability | None) -> None:
    """`calibration.csv`: a row a bin that has samples; None = only a head."""
    points = zip(bars.confidence, bars.accuracy, bars.count, strict=True) if bars else ()
    drawn = [(round(float(c), 6), round(float(a), 6), int(n)) for c, a, n in points if n]
    sheets.write(folder / "calibration.csv", ["confidence", "accuracy", "samples"], drawn)


def write_subsets(folder: Path, subsets: Numbers, name: str) -> None:
    """`subsets.csv`: one figure of every subset that could score a sample, with its interval."""
    columns = ["modalities", "score", "low", "high", "samples"]
    rows = [
        [subset, one[name], *one[f"{name}_95"], one["samples"]]
        for subset, one in subsets.items()
        if one["samples"]
    ]
    sheets.write(folder / "subsets.csv", columns, rows)


def _of_subset(scores: Scores, subset: str, classes: int, resamples: int) -> Numbers:
    inside = scores.scored(subset)
    if not inside.any():
        return {"samples": 0}
    accuracy, macro_f1 = _estimates(scores, subset, classes, resamples)
    return {**accuracy.paired("accuracy"), **macro_f1.paired("macro_f1"), "samples": int(inside.sum())}


def _estimates(
    scores: Scores, subset: str, classes: int, resamples: int
) -> tuple[metrics.Estimate, metrics.Estimate]:
    """Accuracy and macro-F1 of the samples that the subset can score."""
    inside = scores.scored(subset)
    return metrics.accuracy_and_macro_f1(
        scores.target[inside],
        scores.logits[subset][inside].argmax(axis=1),
        scores.group[inside],
        classes=classes,
        resamples=resamples,
    )


def _reliability(
    raw: NDArray[np.float64], target: NDArray[np.int64], temperature: float, bins: int
) -> metrics.Reliability:
    chances = metrics.softmax(raw, temperature)
    return metrics.reliability(chances.max(axis=1), chances.argmax(axis=1) == target, bins)


def _calibration(
    raw: NDArray[np.float64], target: NDArray[np.int64], temperature: float, bins: int, suffix: str = ""
) -> Numbers:
    chances = metrics.softmax(raw, temperature)
    correct = chances.argmax(axis=1) == target
    ece = metrics.expected_calibration_error(chances.max(axis=1), correct, bins)
    return {f"ece{suffix}": ece, f"nll{suffix}": metrics.nll(chances, target)}


def _per_class(matrix: metrics.Ints, labels: Sequence[str]) -> list[Numbers]:
    found = metrics.per_class(matrix)
    columns = zip(labels, found.precision, found.recall, found.f1, found.support, strict=True)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f1), "support": int(n)}
        for label, p, r, f1, n in columns
    ]


def _gain(scores: Scores, rival: str, resamples: int) -> Numbers:
    """Fusion against one subset on the samples that both score, paired."""
    shared = scores.scored(rival)
    right, before = scores.correct(scores.full)[shared], scores.correct(rival)[shared]
    gain, p = metrics.accuracy_gain(right, before, scores.group[shared], resamples=resamples)
    return {"over": rival, **gain.flat("accuracy"), "p": p, "samples": int(shared.sum())}


def _prediction_rows(scores: Scores, labels: Sequence[str], temperature: float) -> list[dict[str, Any]]:
    raw = scores.logits[scores.full]
    chances = metrics.softmax(raw, temperature).astype(np.float32)
    return [
        {
            "id": scores.ids[row],
            "split": scores.split,
            "target": labels[scores.target[row]],
            "prediction": labels[best := int(raw[row].argmax())],
            "confidence": chances[row, best],
            "modalities": "+".join(m for m in sorted(scores.present) if scores.present[m][row]),
            "probabilities": chances[row],
        }
        for row in np.flatnonzero(scores.scored(scores.full))
    ]
