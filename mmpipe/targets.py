"""What the cells of a target column mean: one label, several labels, a number or nothing; and as numbers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import InvalidError

KINDS = ("label", "labels", "number", "none")
BINS = 10
"""Of equal counts, into which numbers are dealt when they are split."""
Stratum = str | tuple[str, ...]
"""What a split keeps in balance: a class, or any number of them."""


@dataclass(frozen=True)
class Coding:
    """How cells become numbers: fitted on train. `labels`: of `label` and `labels`, sorted.

    `mean` and `deviation`: of `number`.
    """

    kind: str
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0


def canonical(cell: str | None, kind: str, *, separator: str) -> str | None:
    """A cell as it is stored: a label as it is, labels as a sorted JSON list, a number as Python writes it.

    None for `none` and for an empty cell. Raises ValueError with what is wrong with the cell.
    """
    if cell is None or kind == "none":
        return None
    if kind == "number":
        return repr(_number(cell))
    return json.dumps(_split(cell, separator), ensure_ascii=False) if kind == "labels" else cell


def labels_of(cell: str) -> list[str]:
    """The labels of a stored cell of the kind `labels`."""
    found: list[str] = json.loads(cell)
    return found


def fit(kind: str, cells: Sequence[str | None]) -> Coding:
    """The coding of the train split's stored cells.

    Raises InvalidError `split-too-few` where there is nothing to tell apart.
    """
    given = [cell for cell in cells if cell is not None]
    if kind == "number":
        values = np.array([float(cell) for cell in given], np.float64)
        deviation = float(values.std()) if len(values) else 0.0
        if not deviation:
            what = f"all {len(values)} train samples have one target, {given[0] if given else 'none'}"
            raise InvalidError("split-too-few", what)
        return Coding(kind, mean=float(values.mean()), deviation=deviation)
    several = kind == "labels"
    names = {name for cell in given for name in (labels_of(cell) if several else [cell])}
    return Coding(kind, tuple(sorted(names)) if kind != "none" else ())


def encode(coding: Coding, cells: Sequence[str | None], *, where: str = "") -> NDArray[Any]:
    """int64 (N,) places of labels, float32 (N, K) of 0 and 1, float64 (N,) standardised, or int64 (N,) of -1.

    Raises InvalidError `split-too-few` for a label that train lacks; of several labels those are left out.
    """
    place = {name: number for number, name in enumerate(coding.labels)}
    if coding.kind == "number":
        values = np.array([float(str(cell)) for cell in cells], np.float64)
        return np.asarray((values - coding.mean) / coding.deviation)
    if coding.kind == "labels":
        marks = np.zeros((len(cells), len(place)), np.float32)
        for row, cell in enumerate(cells):
            marks[row, [place[name] for name in labels_of(str(cell)) if name in place]] = 1
        return marks
    if coding.kind == "none":
        return np.full(len(cells), -1, np.int64)
    if unknown := sorted({str(cell) for cell in cells if cell not in place}):
        what = f"has no train sample of {', '.join(map(repr, unknown[:5]))}"
        raise InvalidError("split-too-few", what, where=where)
    return np.array([place[str(cell)] for cell in cells], np.int64)


def strata(kind: str, cells: Sequence[str | None]) -> list[Stratum]:
    """What a split keeps in balance, a sample: its label, all of its labels, or its tenth of the numbers."""
    if kind == "label":
        return [str(cell) for cell in cells]
    if kind == "labels":
        return [tuple(labels_of(str(cell))) for cell in cells]
    if kind == "none" or not cells:
        return [()] * len(cells)
    values = np.array([float(str(cell)) for cell in cells])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 2:
        return [()] * len(cells)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [(f"{edges[n]:g} to {edges[n + 1]:g}",) for n in bins.tolist()]


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"its target {cell[:40]!r} is no finite number")
    return value


def _split(cell: str, separator: str) -> list[str]:
    """Sorted, each once. A cell that starts with `[` is a JSON list."""
    if not cell.lstrip().startswith("["):
        return sorted({name.strip() for name in cell.split(separator)} - {""})
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError(f"its target {cell[:40]!r} starts as a JSON list and is none") from None
    if not all(isinstance(name, str | int | float) and not isinstance(name, bool) for name in found):
        raise ValueError(f"its target {cell[:40]!r} is a list of other things than labels")
    return sorted({str(name).strip() for name in found} - {""})
