"""One self-contained HTML page about the data and the model: opens offline, same inputs, same bytes."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from mmpipe import balance, charts, datacard, findings, gallery, heat, pages, paths, schema, tables
from mmpipe.embed import visible
from mmpipe.errors import NotFoundError
from mmpipe.metrics import Estimate, Reliability

Curves = dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Inputs:
    """All that the page tells; paths in `samples` are relative to `root`. `config`: the bundle's own.

    `findings`: what `evaluate` wrote of its task.
    """

    root: Path
    samples: pa.Table
    quarantine: pa.Table
    splits: pa.Table
    findings: dict[str, Any]
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
        findings=_json(root / paths.FINDINGS),
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


def first(inputs: Inputs, count: int) -> list[str]:
    """The ids of so many test samples that the page shows: the first ones of each gallery, in turns."""
    galleries = [[item["id"] for item in part["items"]] for part in inputs.findings["exhibits"]]
    turns = (name for some in zip_longest(*galleries) for name in some if name is not None)
    return list(dict.fromkeys(turns))[:count]


def render(inputs: Inputs, *, examples: int, saliency: Sequence[heat.Shown] = ()) -> str:
    """The whole page. `examples`: so many best and so many worst test samples."""
    told, modalities = inputs.findings, sorted(inputs.config["architecture"]["modalities"])
    filters: dict[str, Callable[..., Any]] = {"shown": partial(findings.shown, percent=True), "draw": draw}
    return pages.render(
        "report.html.j2",
        filters,
        splits=schema.SPLITS,
        card=datacard.describe(inputs.samples, inputs.quarantine, inputs.splits, kind=told["kind"]),
        found=inputs.evaluation,
        told=told,
        modalities=", ".join(modalities),
        training=inputs.training,
        curve_charts=_curve_charts(inputs.curves),
        balance=balance.describe(
            inputs.training.get("classes", []),
            inputs.evaluation.get("per_class", []),
            inputs.config.get("params", {}),
            kind=told["kind"],
        ),
        exhibits=[(part, _exhibits(inputs, part, examples)) for part in told["exhibits"]],
        saliency=saliency,
        provenance=_provenance(inputs.config),
    )


def _exhibits(inputs: Inputs, part: Mapping[str, Any], count: int) -> list[gallery.Exhibit]:
    return gallery.choose(part["items"], inputs.samples, inputs.root, count=count)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError("workspace", "does not exist", where=str(path), fix="run `dvc repro`")
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def _curve_charts(curves: Curves) -> list[Markup]:
    """One chart a quantity; its train and val curves together."""
    grouped: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    for name, points in curves.items():
        part, _, quantity = name.replace("_", " ").partition(" ")
        known = part in schema.SPLITS and quantity
        whole = name.replace("_", " ")
        grouped.setdefault(quantity if known else whole, {})[part if known else whole] = points
    return [charts.lines(series, title=name) for name, series in sorted(grouped.items())]


def draw(block: Mapping[str, Any]) -> Markup:
    """A chart of the findings. Names in it are strangers' words."""
    data = dict(block["data"])
    if block["form"] == "heat_map":
        data = {"matrix": np.array(data["matrix"]), "labels": [visible(name, 60) for name in data["labels"]]}
    elif block["form"] == "intervals":
        data["estimates"] = {visible(name, 60): Estimate(*of) for name, of in data.pop("points").items()}
    elif block["form"] == "reliability":
        data = {"found": {name: _reliability(one) for name, one in data["found"].items()}}
    drawn: Markup = getattr(charts, block["form"])(**data, title=block["title"])
    return drawn


def _reliability(one: Mapping[str, Any]) -> Reliability:
    return Reliability(*(np.array(one[key]) for key in ("confidence", "accuracy", "count")))


def _provenance(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The bundle's config as tables: where it came from, and every parameter."""
    params = dict(_flat(config.get("params", {})))
    libraries = dict(_flat(config.get("libraries", {})))
    told = ("data_sha256", "code_sha256", "machine", "task", "temperature", "decoding", "architecture")
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
