"""One self-contained HTML page about the data and the model: opens offline, same inputs, same bytes."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from mmpipe import charts, datacard, gallery, metrics, pages, paths, schema, scorecard, tables
from mmpipe.embed import visible
from mmpipe.errors import NotFoundError
from mmpipe.metrics import Estimate

MOST_CLASSES = 30
"""Of the confusion matrix; with more, those with the most mistakes are drawn."""

Curves = dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Inputs:
    """All that the page tells; paths in `samples` are relative to `root`. `config`: the bundle's own."""

    root: Path
    samples: pa.Table
    quarantine: pa.Table
    splits: pa.Table
    predictions: pa.Table
    evaluation: dict[str, Any]
    training: dict[str, Any]
    curves: Curves
    config: dict[str, Any]


def read(root: Path) -> Inputs:
    """What the pipeline left in the workspace at `root`. Raises NotFoundError for what is not there."""
    return Inputs(
        root=root,
        samples=tables.read(root / paths.SAMPLES, schema.SAMPLES),
        quarantine=tables.read(root / paths.QUARANTINE, schema.QUARANTINE),
        splits=tables.read(root / paths.SPLITS, schema.SPLIT),
        predictions=tables.read(root / paths.PREDICTIONS),
        evaluation=_json(root / paths.METRICS / "evaluate.json"),
        training=_json(root / paths.METRICS / "train.json"),
        curves=read_curves(root / paths.PLOTS / "train"),
        config=_json(root / paths.BUNDLE / "config.json"),
    )


def read_curves(folder: Path) -> Curves:
    """{curve: (steps, values)} of DVCLive's tables: `step`, then a column with the curve's own name."""
    found = {}
    for path in sorted(folder.rglob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        steps = [float(row["step"]) for row in rows]
        found[path.stem] = (steps, [float(row[path.stem]) for row in rows])
    return found


def render(inputs: Inputs, *, examples: int) -> str:
    """The whole page. `examples`: so many best and so many worst test samples."""
    found = inputs.evaluation
    named = [(name.replace("+", " + "), one) for name, one in found["subsets"].items()]
    subsets = sorted(named, key=lambda item: (-item[1].get("accuracy", 0), item[0]))
    return pages.render(
        "report.html.j2",
        splits=schema.SPLITS,
        card=datacard.describe(inputs.samples, inputs.quarantine, inputs.splits),
        found=found,
        verdict=scorecard.verdict(found),
        subsets=subsets,
        modalities=max((name for name, _ in named), key=len).replace(" + ", ", "),
        subset_chart=_subset_chart(subsets),
        training=inputs.training,
        curve_charts=_curve_charts(inputs.curves),
        **_test_charts(inputs),
        right=_gallery(inputs, right=True, count=examples),
        wrong=_gallery(inputs, right=False, count=examples),
        provenance=_provenance(inputs.config),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError("workspace", "does not exist", where=str(path), fix="run `dvc repro`")
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def _gallery(inputs: Inputs, *, right: bool, count: int) -> list[gallery.Exhibit]:
    return gallery.choose(inputs.predictions, inputs.samples, inputs.root, right=right, count=count)


def _subset_chart(subsets: Sequence[tuple[str, dict[str, Any]]]) -> Markup:
    points = {name: Estimate(one["accuracy"], *one["accuracy_95"]) for name, one in subsets if one["samples"]}
    return charts.intervals(points, xlabel="accuracy on test", title="Accuracy of each subset of modalities")


def _curve_charts(curves: Curves) -> list[Markup]:
    """One chart a quantity; its train and val curves together."""
    grouped: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    for name, points in curves.items():
        part, _, quantity = name.replace("_", " ").partition(" ")
        known = part in schema.SPLITS and quantity
        whole = name.replace("_", " ")
        grouped.setdefault(quantity if known else whole, {})[part if known else whole] = points
    return [charts.lines(series, title=name) for name, series in sorted(grouped.items())]


def _test_charts(inputs: Inputs) -> dict[str, Any]:
    """The confusion matrix and the reliability diagram of the test predictions."""
    labels = inputs.config["labels"]
    rows = [row for row in inputs.predictions.to_pylist() if row["split"] == "test"]
    place = {label: number for number, label in enumerate(labels)}
    target = np.array([place[row["target"]] for row in rows])
    predicted = np.array([place[row["prediction"]] for row in rows])
    matrix = metrics.confusion(target, predicted, len(labels))
    shown = _most_mistaken(matrix)
    chances = np.array([row["probabilities"] for row in rows], np.float64)
    return {
        "confusion": charts.heat_map(
            matrix[np.ix_(shown, shown)],
            [visible(labels[n], 60) for n in shown],
            title="Confusion matrix, test",
        ),
        "classes_hidden": len(labels) - len(shown),
        "reliability": _reliability_chart(chances, target, predicted, inputs.evaluation),
    }


def _most_mistaken(matrix: np.ndarray) -> list[int]:
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
    worst = sorted(range(len(matrix)), key=lambda n: (-mistakes[n], n))[:MOST_CLASSES]
    return sorted(worst)


def _reliability_chart(
    chances: np.ndarray, target: np.ndarray, predicted: np.ndarray, found: Mapping[str, Any]
) -> Markup:
    """softmax(z) follows from softmax(z / T): it is its T-th power, normalised. Bins as in the metrics."""
    temperature, bins = found["temperature"], found["calibration_bins"]
    raw = chances**temperature / (chances**temperature).sum(axis=1, keepdims=True)
    drawn = {
        name: metrics.reliability(p.max(axis=1), predicted == target, bins)
        for name, p in (("after temperature", chances), ("before", raw))
    }
    return charts.reliability(
        drawn, title="Accuracy against confidence, before and after temperature scaling"
    )


def _provenance(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The bundle's config as tables: where it came from, and every parameter."""
    params = dict(_flat(config.get("params", {})))
    libraries = dict(_flat(config.get("libraries", {})))
    told = ("data_sha256", "code_sha256", "machine", "task", "temperature", "architecture")
    origin = dict(_flat({name: config[name] for name in told if name in config}))
    return {
        "Origin": sorted(origin.items()),
        "Libraries": sorted(libraries.items()),
        "Parameters": sorted(params.items()),
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.")
        else:
            found.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found
