"""What differs, as one self-contained HTML page: opens offline, same inputs, same bytes."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from mmpipe import charts, pages
from mmpipe.compare.outline import sections, side
from mmpipe.metrics import Estimate


def render(found: Mapping[str, Any]) -> str:
    """The whole page, of what `difference.compare` found."""
    return pages.render(
        "compare.html.j2",
        old=side(found["old"]),
        new=side(found["new"]),
        accuracy=_accuracy(found),
        flips=_flips(found["predictions"]),
        sections=sections(found),
        intervals=_intervals(found["metrics"]),
    )


def _accuracy(found: Mapping[str, Any]) -> dict[str, Any]:
    """The row of accuracy; empty where metrics are not to be had."""
    rows = found["metrics"] if isinstance(found["metrics"], list) else []
    return next((row for row in rows if row["name"] == "accuracy"), {})


def _flips(predictions: Mapping[str, Any]) -> dict[str, int]:
    return {kind: one["count"] for kind, one in predictions.get("flips", {}).items()}


def _intervals(metrics: Any) -> Markup | None:
    """Accuracy of every subset of modalities, old above new; None where there is none to draw."""
    points = {}
    for row in metrics if isinstance(metrics, list) else []:
        name = row["name"].removeprefix("subsets.").removesuffix("accuracy").rstrip(".").replace("+", " + ")
        for key in ("old", "new") if row["name"].startswith("subsets.") and name else ():
            if row["name"].endswith(".accuracy") and f"{key}_95" in row:
                points[f"{name}, {key}"] = Estimate(row[key], *row[f"{key}_95"])
    if not points:
        return None
    return charts.intervals(points, xlabel="accuracy on test", title="Accuracy of each subset of modalities")
