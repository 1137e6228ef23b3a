"""What an evaluation of single labels found: accuracy, classes, calibration, the surest right and wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmpipe import findings, metrics, scorecard, targets
from mmpipe.findings import Block

MOST_CLASSES = 30
"""Of the confusion matrix; with more, those with the most mistakes are drawn."""
Tree = Mapping[str, Any]


def of(found: Tree, predictions: pa.Table, labels: Sequence[str]) -> dict[str, Any]:
    """All of it, as `findings` has it. `found`: metrics of the test split; `predictions`: of val and test."""
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    place = {label: number for number, label in enumerate(labels)}
    target, given = (np.array([place[row[key]] for row in rows]) for key in ("target", "prediction"))
    chances = np.array([row["probabilities"] for row in rows], np.float64)
    return {
        "task": "classify",
        "kind": "label",
        "learns": f"{len(labels)} classes",
        "says": f"One label out of {len(labels)}",
        "index": [
            {"type": "accuracy", "name": "accuracy", "value": found["accuracy"]},
            {"type": "f1", "name": "macro F1", "value": found["macro_f1"]},
            {"type": "ece", "name": "expected calibration error", "value": found["ece"]},
        ],
        "headline": _headline(found),
        "verdict": _verdict(found),
        "sections": [
            findings.section(
                "modalities",
                "What each modality adds",
                "",
                subsets(found, {"accuracy": "accuracy", "macro_f1": "macro F1"}, "share"),
            ),
            _classes(found, metrics.confusion(target, given, len(labels)), labels),
            _calibration(found, chances, target, given),
        ],
        "exhibits": exhibits(rows, [row["prediction"] == row["target"] for row in rows]),
    }


def of_several(found: Tree, predictions: pa.Table, labels: Sequence[str]) -> dict[str, Any]:
    """The same where a sample has any number of labels."""
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    right = [row["prediction"] == row["target"] for row in rows]
    chances = np.array([row["probabilities"] for row in rows], np.float64)
    wanted = np.array([[label in targets.labels_of(row["target"]) for label in labels] for row in rows])
    names = {"micro_f1": "micro F1", "macro_f1": "macro F1", "subset_accuracy": "subset accuracy"}
    return {
        "task": "multilabel",
        "kind": "labels",
        "learns": f"{len(labels)} labels, any number of them a sample,",
        "says": f"Any of {len(labels)} labels",
        "index": [
            {"type": "f1", "name": "micro F1", "value": found["micro_f1"]},
            {"type": "f1", "name": "macro F1", "value": found["macro_f1"]},
            {"type": "map", "name": "mean average precision", "value": found["map"]},
        ],
        "headline": _tiles(found, names | {"map": "mean average precision"}),
        "verdict": _verdict(found, "micro_f1"),
        "sections": [
            findings.section(
                "modalities",
                "What each modality adds",
                "",
                subsets(found, dict(list(names.items())[:2]), "share"),
            ),
            findings.section("classes", "Labels", "", [_per_label(found)]),
            _calibration_of_several(found, chances, wanted),
        ],
        "exhibits": exhibits([row | _worded(row) for row in rows], right),
    }


def subsets(found: Tree, names: Mapping[str, str], kind: str) -> list[Block]:
    """The subsets of modalities: a chart of the first figure of `names`, {key: shown name}, and tables."""
    first, word = next(iter(names.items()))
    sign = -1 if kind == "number" else 1  # of errors the lowest comes first
    named = [(name.replace("+", " + "), one) for name, one in found["subsets"].items()]
    ranked = sorted(named, key=lambda item: (-sign * item[1].get(first, -np.inf * sign), item[0]))
    points = {name: [one[first], *one[f"{first}_95"]] for name, one in ranked if one["samples"]}
    title = f"{word[:1].upper()}{word[1:]} of each subset of modalities"
    columns = [("modalities", "words")]
    for shown in names.values():
        columns += [(shown, kind), ("95 %", f"{kind}s")]
    columns += [("samples", "count"), ("left out", "count")]
    total = found["samples"] + found["samples_left_out"]
    rows = [[name, *_cells(one, names), one["samples"], total - one["samples"]] for name, one in ranked]
    caption = (
        "The same model with the other modalities hidden. A sample that has none of a subset's modalities "
        "is left out of it."
    )
    drawn = findings.chart("intervals", title, points=points, xlabel=f"{word} on test")
    return [drawn, findings.table(caption, columns, rows), *_hidden(found, first, word, kind)]


def exhibits(rows: Sequence[Tree], right: Sequence[bool]) -> list[Block]:
    """The surest wrong and right ones. `rows`: predictions with `confidence`."""
    parts = []
    for wanted, title, none in (
        (False, "Wrong, and most sure of it", "No test sample was predicted wrongly."),
        (True, "Right, and most sure of it", "No test sample was predicted rightly."),
    ):
        some = [row for row, good in zip(rows, right, strict=True) if bool(good) is wanted]
        some = sorted(some, key=lambda row: (-row["confidence"], row["id"]))[: findings.MOST_EXHIBITS]
        items = [
            findings.exhibit(
                row["id"],
                row["prediction"],
                findings.shown(float(row["confidence"]), "share", percent=True),
                None if wanted else row["target"],
            )
            for row in some
        ]
        parts.append({"title": title, "none": none, "good": wanted, "items": items})
    return parts


def _headline(found: Tree) -> list[Block]:
    tiles = [
        findings.tile("Accuracy", found["accuracy"], "share", **findings.interval(found, "accuracy")),
        findings.tile("Macro-F1", found["macro_f1"], "share", **findings.interval(found, "macro_f1")),
        findings.tile("Calibration error", found["ece"], "number"),
    ]
    tiles[-1]["note"] = f"{found['ece_raw']:.3f} before temperature scaling"
    return tiles


def _tiles(found: Tree, names: Mapping[str, str]) -> list[Block]:
    return [
        findings.tile(f"{word[:1].upper()}{word[1:]}", found[key], "share", **findings.interval(found, key))
        for key, word in names.items()
    ]


def _worded(row: Tree) -> dict[str, str]:
    """Sets of labels for people."""
    return {key: ", ".join(targets.labels_of(row[key])) or "no label" for key in ("prediction", "target")}


def _verdict(found: Tree, name: str = "accuracy") -> str:
    words = scorecard.verdict(dict(found), name)
    return f"{words[:1].upper()}{words[1:]}"


def _cells(one: Tree, names: Mapping[str, str]) -> list[Any]:
    return [value for key in names for value in (one.get(key), one.get(f"{key}_95"))]


def _hidden(found: Tree, first: str, word: str, kind: str) -> list[Block]:
    """A row a modality of a model that has several: what is lost without it."""
    full = max(found["subsets"], key=lambda name: name.count("+"))
    rows = []
    for hidden in full.split("+") if "+" in full else []:
        rest = found["subsets"]["+".join(m for m in full.split("+") if m != hidden)]
        if rest["samples"]:
            change = (rest[first] - found[first]) * (1 if kind == "number" else -1)
            rows.append([hidden, rest[first], change])
    columns = [("hidden", "words"), (f"{word} without it", kind), ("lost", "signed")]
    return [findings.table("What is lost when one modality is hidden from this model.", columns, rows)]


def _classes(found: Tree, matrix: np.ndarray, labels: Sequence[str]) -> Block:
    shown = _most_mistaken(matrix)
    hidden = len(labels) - len(shown)
    text = f"The classes with the most mistakes; {hidden} others are not drawn." if hidden else ""
    drawn = findings.chart(
        "heat_map",
        "Confusion matrix, test",
        matrix=matrix[np.ix_(shown, shown)].tolist(),
        labels=[labels[n] for n in shown],
    )
    return findings.section("classes", "Classes", text, [drawn, per_class(found)])


def per_class(found: Tree) -> Block:
    """Precision, recall and F1 of each label."""
    columns = [("class", "words"), ("precision", "share"), ("recall", "share"), ("F1", "share")]
    rows = [
        [one["label"], one["precision"], one["recall"], one["f1"], one["support"]]
        for one in found["per_class"]
    ]
    return findings.table(
        "On the test split, all modalities together.", [*columns, ("samples", "count")], rows
    )


def _per_label(found: Tree) -> Block:
    shares = ("precision", "recall", "f1", "average_precision", "threshold")
    columns = [
        ("label", "words"),
        *((name.replace("_", " ").replace("f1", "F1"), "share") for name in shares),
    ]
    rows = [[one["label"], *(one[name] for name in shares), one["support"]] for one in found["per_class"]]
    caption = "On the test split, all modalities together; thresholds were fitted on the validation split."
    return findings.table(caption, [*columns, ("samples", "count")], rows)


def _calibration_of_several(found: Tree, chances: np.ndarray, wanted: np.ndarray) -> Block:
    drawn = {
        "after temperature": metrics.reliability(chances.ravel(), wanted.ravel(), found["calibration_bins"])
    }
    text = (
        "Of the labels that the model gives a probability of 80 %, 80 % should be true. The temperature, "
        f"{found['temperature']:.3f}, was fitted on the validation split. Expected calibration error, over "
        f"every label of every sample: {found['ece_raw']:.3f} before, {found['ece']:.3f} after."
    )
    title = "Share of labels that are true against their probability"
    return findings.section("calibration", "Calibration", text, [reliability(drawn, title)])


def _most_mistaken(matrix: np.ndarray) -> list[int]:
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
    worst = sorted(range(len(matrix)), key=lambda n: (-mistakes[n], n))[:MOST_CLASSES]
    return sorted(worst)


def _calibration(found: Tree, chances: np.ndarray, target: np.ndarray, given: np.ndarray) -> Block:
    """softmax(z) follows from softmax(z / T): it is its T-th power, normalised. Bins as in the metrics."""
    temperature, bins = found["temperature"], found["calibration_bins"]
    raw = chances**temperature / (chances**temperature).sum(axis=1, keepdims=True)
    drawn = {
        name: metrics.reliability(p.max(axis=1), given == target, bins)
        for name, p in (("after temperature", chances), ("before", raw))
    }
    title = "Accuracy against confidence, before and after temperature scaling"
    text = (
        "A calibrated model is right in 80 % of the cases of which it is 80 % sure. The temperature, "
        f"{temperature:.3f}, was fitted on the validation split. Expected calibration error: "
        f"{found['ece_raw']:.3f} before, {found['ece']:.3f} after temperature scaling; negative "
        f"log-likelihood: {found['nll_raw']:.3f} before, {found['nll']:.3f} after."
    )
    return findings.section("calibration", "Calibration", text, [reliability(drawn, title)])


def reliability(drawn: Mapping[str, metrics.Reliability], title: str) -> Block:
    """A reliability diagram, a line a key."""
    series = {
        name: {
            "confidence": one.confidence.tolist(),
            "accuracy": one.accuracy.tolist(),
            "count": one.count.tolist(),
        }
        for name, one in drawn.items()
    }
    return findings.chart("reliability", title, found=series)
