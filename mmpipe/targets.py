"""What the cells of a target column mean: one label, several, a number, a text or nothing; and as numbers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import InvalidError
from mmpipe.transcripts.form import normalise

KINDS = ("label", "labels", "number", "text", "none")
BINS = 10
"""Of equal counts, into which numbers are dealt when they are split."""
Stratum = str | tuple[str, ...]
"""What a split keeps in balance: a class, or any number of them."""


PAD = -1
"""Fills up the ids of a text that is shorter than others."""


class Units(Protocol):
    """What a text is made of: see `transcripts.units`. Ids are 1 and more; 0 is free for who needs a mark."""

    @property
    def size(self) -> int:
        """Number of ids, 0 among them."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text's normal form."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, none of them 0."""


@dataclass(frozen=True)
class Coding:
    """How cells become numbers: fitted on train. `labels`: of `label` and `labels`, sorted.

    `mean` and `deviation`: of `number`. `units` and `texts`, those of the train split: of `text`; a bundle's
    coding has the units alone.
    """

    kind: str
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    units: Units | None = None
    texts: tuple[str, ...] = ()


def canonical(cell: str | None, kind: str, *, separator: str) -> str | None:
    """A cell as it is stored: labels as a sorted JSON list, a number as Python writes it, others as they are.

    None for `none` and for an empty cell. Raises ValueError with what is wrong with the cell.
    """
    if cell is None or kind == "none":
        return None
    if kind == "number":
        return repr(_number(cell))
    if kind == "text" and not normalise(cell):
        raise ValueError(f"its target {cell[:40]!r} has neither letter nor digit")
    return json.dumps(_split(cell, separator), ensure_ascii=False) if kind == "labels" else cell


def labels_of(cell: str) -> list[str]:
    """The labels of a stored cell of the kind `labels`."""
    found: list[str] = json.loads(cell)
    return found


def fit(kind: str, cells: Sequence[str | None], *, units: Units | None = None) -> Coding:
    """The coding of the train split's stored cells; that of texts has the `units`, which are fitted apart.

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
    if kind == "text":
        return Coding(kind, units=units, texts=tuple(given))
    several = kind == "labels"
    names = {name for cell in given for name in (labels_of(cell) if several else [cell])}
    return Coding(kind, tuple(sorted(names)) if kind != "none" else ())


def encode(coding: Coding, cells: Sequence[str | None], *, where: str = "") -> NDArray[Any]:
    """int64 (N,) places of labels, float32 (N, K) of 0 and 1, float64 (N,) standardised, or int64 (N,) of -1.

    Of texts int64 (N, L): ids of their units, `PAD` past the end of each; characters that train lacks are
    left out. Raises InvalidError `split-too-few` for a label that train lacks; of several labels those are
    left out.
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
    if coding.kind == "text":
        return _ids(coding, cells)
    if coding.kind == "none":
        return np.full(len(cells), -1, np.int64)
    if unknown := sorted({str(cell) for cell in cells if cell not in place}):
        what = f"has no train sample of {', '.join(map(repr, unknown[:5]))}"
        raise InvalidError("split-too-few", what, where=where)
    return np.array([place[str(cell)] for cell in cells], np.int64)


def strata(kind: str, cells: Sequence[str | None]) -> list[Stratum]:
    """What a split keeps in balance, a sample: its label, all of its labels, or its tenth of the numbers.

    Of texts it is nothing.
    """
    if kind == "label":
        return [str(cell) for cell in cells]
    if kind == "labels":
        return [tuple(labels_of(str(cell))) for cell in cells]
    if kind in ("none", "text") or not cells:
        return [()] * len(cells)
    values = np.array([float(str(cell)) for cell in cells])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 2:
        return [()] * len(cells)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [(f"{edges[n]:g} to {edges[n + 1]:g}",) for n in bins.tolist()]


def _ids(coding: Coding, cells: Sequence[str | None]) -> NDArray[np.int64]:
    assert coding.units is not None
    ids = [coding.units.encode(str(cell)) for cell in cells]
    padded = np.full((len(ids), max(map(len, ids), default=0)), PAD, np.int64)
    for row, one in zip(padded, ids, strict=True):
        row[: len(one)] = one
    return padded


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
