"""What the data are: rows kept and put aside, classes, modalities, sizes, as tables and charts for a page."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mmpipe import charts, schema, targets
from mmpipe.embed import visible
from mmpipe.errors import FIXES

MOST_CLASSES = 40
"""More are shown as one bar."""
DUPLICATE = "row-duplicate"


@dataclass(frozen=True)
class Aside:
    """The rows that were put aside for one reason, with one of their messages."""

    code: str
    rows: int
    example: str
    source: str
    fix: str


@dataclass(frozen=True)
class DataCard:
    """`presence`: (modalities, rows in train, val, test), most frequent first."""

    rows: int
    kept: int
    quarantined: int
    duplicates: int
    splits: dict[str, int]
    warned: int
    balance: Markup | None
    presence: list[tuple[str, list[int]]]
    sizes: list[Markup]
    asides: list[Aside]


def describe(samples: pa.Table, quarantine: pa.Table, splits: pa.Table, *, kind: str = "label") -> DataCard:
    """`schema.SAMPLES`, `schema.QUARANTINE` and `schema.SPLIT`, the first and last in the same order.

    `kind`: of the targets.
    """
    codes = Counter(quarantine["code"].to_pylist())
    found = Counter(splits["split"].to_pylist())
    return DataCard(
        rows=len(samples) + len(quarantine),
        kept=len(samples),
        quarantined=len(quarantine) - codes[DUPLICATE],
        duplicates=codes[DUPLICATE],
        splits={split: found[split] for split in schema.SPLITS},
        warned=int(pc.sum(pc.greater(pc.list_value_length(samples["warnings"]), 0)).as_py() or 0),
        balance=_balance(splits, kind),
        presence=_presence(samples, splits),
        sizes=_sizes(samples),
        asides=_asides(quarantine),
    )


def _balance(splits: pa.Table, kind: str) -> Markup | None:
    """Classes by size; beyond `MOST_CLASSES`, the small ones together. Of numbers and texts a histogram."""
    cells = splits["target"].to_pylist()
    if kind == "none" or not cells:
        return None
    if kind == "number":
        return charts.histogram([float(cell) for cell in cells], xlabel="target", title="Targets")
    if kind == "text":
        sizes = [float(len(cell)) for cell in cells]
        return charts.histogram(sizes, xlabel="characters", title="Lengths of the targets")
    named = [targets.labels_of(cell) if kind == "labels" else [cell] for cell in cells]
    of = zip(named, splits["split"].to_pylist(), strict=True)
    pairs = Counter((name, split) for some, split in of for name in some)
    totals = Counter(name for some in named for name in some)
    by_size = sorted(totals, key=lambda name: (-totals[name], name))
    counts = {name: [pairs[name, s] for s in schema.SPLITS] for name in by_size[:MOST_CLASSES]}
    bars = {visible(name, 60): numbers for name, numbers in counts.items()}
    if rest := by_size[MOST_CLASSES:]:
        bars[f"{len(rest)} others"] = [sum(pairs[name, s] for name in rest) for s in schema.SPLITS]
    return charts.stacked_bars(bars, schema.SPLITS, title="Samples of each class, by split") if bars else None


def _presence(samples: pa.Table, splits: pa.Table) -> list[tuple[str, list[int]]]:
    has = [samples[f"{m}_sha256"].is_valid().to_pylist() for m in schema.MODALITIES]
    names = [
        " + ".join(m for m, here in zip(schema.MODALITIES, row, strict=True) if here)
        for row in zip(*has, strict=True)
    ]
    pairs = Counter(zip(names, splits["split"].to_pylist(), strict=True))
    return [
        (name, [pairs[name, s] for s in schema.SPLITS]) for name, _ in Counter(sorted(names)).most_common()
    ]


def _sizes(samples: pa.Table) -> list[Markup]:
    longest = pc.max_element_wise(samples["image_width"], samples["image_height"])
    plans: list[tuple[Any, str, str, bool]] = [
        (longest, "longer side, px", "Sizes of the pictures", True),
        (samples["audio_duration_s"], "duration, s", "Durations of the recordings", False),
        (pc.utf8_length(samples["text"]), "characters", "Lengths of the texts", True),
    ]
    drawn = []
    for column, xlabel, title, log in plans:
        values = column.drop_null().to_numpy()
        if len(values):
            drawn.append(charts.histogram(values.astype(np.float64), xlabel=xlabel, title=title, log=log))
    return drawn


def _asides(quarantine: pa.Table) -> list[Aside]:
    """By code, most frequent first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in quarantine.to_pylist():
        groups.setdefault(row["code"], []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        Aside(code, len(rows), rows[0]["message"], rows[0]["source"], FIXES.get(code, ""))
        for code, rows in ordered
    ]
