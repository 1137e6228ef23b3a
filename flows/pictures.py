"""Curves and confusion of a run as pictures that stand alone: SVG in data URIs, the report's own charts."""

import base64
import json
import re
from pathlib import Path

from mmpipe import paths

MOST_CLASSES = 30
_COLOURS = {
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d0d7de",
    "c1": "#3b6fb6",
    "c2": "#c8553d",
    "c3": "#4f8a5b",
    "c4": "#8a5fa8",
}
_FONT = "font-family: system-ui, 'DejaVu Sans', sans-serif; background: #ffffff"


def curves(root: Path) -> dict[str, str]:
    """{quantity: data URI} of the training in a workspace: its train and val curves together."""
    from mmpipe import charts, report

    grouped: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name, points in report.read_curves(root / paths.PLOTS / "train").items():
        part, _, quantity = name.replace("_", " ").partition(" ")
        if part in ("train", "val") and quantity:
            grouped.setdefault(quantity, {})[part] = points
    return {name: uri(charts.lines(found, title=name)) for name, found in sorted(grouped.items())}


def confusion(root: Path) -> str | None:
    """The confusion matrix of the test samples as a data URI; None without one, or with too many classes."""
    import numpy as np

    from mmpipe import charts, metrics, tables

    config = json.loads((root / paths.BUNDLE / "config.json").read_bytes())
    labels: list[str] = config["labels"]
    if config.get("task", "classify") != "classify" or len(labels) > MOST_CLASSES:
        return None
    rows = [row for row in tables.read(root / paths.PREDICTIONS).to_pylist() if row["split"] == "test"]
    place = {label: number for number, label in enumerate(labels)}
    target = np.array([place[row["target"]] for row in rows])
    predicted = np.array([place[row["prediction"]] for row in rows])
    matrix = metrics.confusion(target, predicted, len(labels))
    return uri(charts.heat_map(matrix, labels, title="Confusion matrix, test"))


def uri(element: str) -> str:
    """An SVG element of `mmpipe.charts` as a picture of its own, in the colours of a light page."""
    text = re.sub(r"var\(--(\w+)\)", lambda found: _COLOURS[found[1]], str(element))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" style="{_FONT}" '
    text = text.replace("<svg ", head, 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"
