"""Whether new samples are like those that a model was trained on: labels, modalities, sizes, predictions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmpipe import shift
from mmpipe.compare import samples
from mmpipe.schema import MODALITIES
from mmpipe.shift import Shift
from mmpipe.targets import labels_of

FEWEST = 5
"""Of samples on each side that a check needs."""
SHARES, NUMBERS = "chi-square", "Kolmogorov–Smirnov"
Counts = dict[str, int]


@dataclass(frozen=True)
class Thresholds:
    """`alpha`: the chance of any false alarm, of all checks together. `min_distance`: a shift that is smaller
    is none, however sure. `at_least`: with fewer new samples nothing is said.
    """

    alpha: float = 0.01
    min_distance: float = 0.1
    at_least: int = 20


@dataclass(frozen=True)
class Said:
    """Two tables of a task, of whose columns `prediction` and `confidence` count; `kind`: of its targets."""

    kind: str
    old: pa.Table
    new: pa.Table


@dataclass(frozen=True)
class Pair:
    """What one check compares: `old` of the champion's data, `new` of the new ones."""

    name: str
    test: str
    old: pa.ChunkedArray
    new: pa.ChunkedArray


def compare(
    old: pa.Table,
    new: pa.Table,
    thresholds: Thresholds,
    *,
    kind: str = "label",
    said: Said | None = None,
) -> dict[str, Any]:
    """Two of `schema.SAMPLES`: what a model was trained on, and new ones; `kind`: of their targets.

    `said`: what that model says of held-out samples and of the new ones.
    → {verdict: steady, drifted or too few, sentence, checks: a row each, unknown_labels: how often each}.
    """
    found: dict[str, Any] = {"old": len(old), "new": len(new), **asdict(thresholds)}
    several = [] if kind in ("number", "text", "none") else [_labels(of["target"], kind) for of in (old, new)]
    known = {name for names in several[:1] for name in names.to_pylist()}
    unknown = Counter(name for names in several[1:] for name in names.to_pylist() if name not in known)
    found |= {"unknown_labels": dict(sorted(unknown.items())), "checks": []}
    if len(new) < thresholds.at_least:
        return _concluded(found, "too few")
    pairs = [*_of_targets("", old["target"], new["target"], kind), *_of_samples(old, new)]
    pairs += _of_predictions(said) if said else ()
    found["checks"] = _checked([pair for pair in pairs if _tells(pair)], thresholds)
    return _concluded(found, "drifted" if any(one["drifted"] for one in found["checks"]) else "steady")


def _concluded(found: dict[str, Any], verdict: str) -> dict[str, Any]:
    told = {**found, "verdict": verdict}
    return {**told, "sentence": sentence(told)}


def sentence(found: dict[str, Any]) -> str:
    """The verdict in words."""
    if found["verdict"] == "too few":
        return f"{found['new']} new samples, fewer than {found['at_least']}: nothing can be said"
    told = [f"{one['name']} ({one['most']})" for one in found["checks"] if one["drifted"]]
    if told:
        return f"{found['new']} new samples differ in {'; '.join(told)}"
    return f"{found['new']} new samples are like those that the model was trained on"


def lines(found: dict[str, Any]) -> Iterator[str]:
    """All of it for people, a line a check."""
    yield sentence(found)
    for one in found["checks"]:
        mark, figures = "drifted" if one["drifted"] else "", f"{one['distance']:.3f}  p {one['p']:<9.3g}"
        yield f"  {one['name']:<20} {figures} {mark:<8} {one['most']}".rstrip()
    for name, count in found["unknown_labels"].items():
        yield f"  {count} samples have the label {name!r}, which the model does not know"


def _checked(pairs: Sequence[Pair], thresholds: Thresholds) -> list[dict[str, Any]]:
    """A row a pair: how far apart they are, p adjusted for all of them, and where they differ most."""
    shifts = [_shift(pair) for pair in pairs]
    adjusted = shift.holm([one.p for one in shifts])
    return [
        {
            "name": pair.name,
            "test": pair.test,
            "distance": round(one.distance, 6),
            "p": float(f"{p:.3g}"),
            "drifted": p < thresholds.alpha and one.distance >= thresholds.min_distance,
            "most": _most(pair),
        }
        for pair, one, p in zip(pairs, shifts, adjusted, strict=True)
    ]


def _tells(pair: Pair) -> bool:
    """Whether there is enough on both sides, and more than one value."""
    enough = min(len(pair.old), len(pair.new)) >= FEWEST
    return enough and len({*pair.old.to_pylist(), *pair.new.to_pylist()}) > 1


def _of_targets(whose: str, old: pa.ChunkedArray, new: pa.ChunkedArray, kind: str) -> Iterator[Pair]:
    """Of one label or several, the shares of all labels; of numbers and of lengths, their distribution."""
    if kind == "number":
        yield Pair(f"{whose}numbers", NUMBERS, *(of.drop_null().cast(pa.float64()) for of in (old, new)))
    elif kind == "text":
        yield Pair(f"{whose}texts, characters", NUMBERS, *(samples.measured(of) for of in (old, new)))
    elif kind != "none":
        yield Pair(f"{whose}labels", SHARES, *(_labels(of, kind) for of in (old, new)))


def _labels(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """All labels of stored cells, those of one sample one after the other."""
    cells = column.drop_null()
    if kind == "label":
        return cells
    return pa.chunked_array([[name for cell in cells.to_pylist() for name in labels_of(cell)]], pa.string())


def _of_samples(old: pa.Table, new: pa.Table) -> Iterator[Pair]:
    for modality in MODALITIES:
        there = (pc.is_valid(of[f"{modality}_sha256"]) for of in (old, new))
        yield Pair(f"with {modality}", SHARES, *(pc.if_else(of, "with", "without") for of in there))
    rates = (of["audio_sample_rate"].drop_null().cast(pa.string()) for of in (old, new))
    yield Pair("audio, samples/s", SHARES, *rates)
    for name, column in samples.SIZES.items():
        yield Pair(name, NUMBERS, *(samples.measured(of[column]) for of in (old, new)))


def _of_predictions(said: Said) -> Iterator[Pair]:
    there = {*said.old.column_names} & {*said.new.column_names}
    if "prediction" in there:
        yield from _of_targets("predicted ", said.old["prediction"], said.new["prediction"], said.kind)
    if "confidence" in there:
        yield Pair("confidence", NUMBERS, said.old["confidence"], said.new["confidence"])


def _shift(pair: Pair) -> Shift:
    if pair.test == SHARES:
        return shift.shares(*(_counts(of) for of in (pair.old, pair.new)))
    return shift.numbers(pair.old.to_numpy(), pair.new.to_numpy())


def _counts(column: pa.ChunkedArray) -> Counts:
    return Counter(column.to_pylist())


def _most(pair: Pair) -> str:
    """Where they differ most: the share of one name, or below one value."""
    if pair.test == NUMBERS:
        value, *parts = shift.gap(pair.old.to_numpy(), pair.new.to_numpy())
        return f"at most {value:.4g}: {parts[0]:.1%} → {parts[1]:.1%}"
    old, new = _counts(pair.old), _counts(pair.new)
    shares = {name: (old[name] / len(pair.old), new[name] / len(pair.new)) for name in sorted({*old, *new})}
    name = max(shares, key=lambda one: abs(shares[one][1] - shares[one][0]))
    return f"{name}: {shares[name][0]:.1%} → {shares[name][1]:.1%}"
