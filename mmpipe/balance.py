"""How frequent each class is, what was done about that in training, and how well it is found, for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
METHODS = {
    "class_weights": "class weights ({}): a sample's loss counts by the frequency of its class",
    "sampling": "{} sampling: in an epoch each class is drawn equally often",
    "logit_adjustment": "logit adjustment (τ = {}): learned as if all classes were equally frequent",
    "focal": "focal loss (γ = {}): samples of which the model is sure count less, whatever their class",
}
LABELS = {"class_weights": "class weights ({}): the positives of a label weigh as much as its negatives"}
"""The same where a sample has any number of labels."""
NONE = ("none", "natural", 0)


@dataclass(frozen=True)
class Balance:
    """`rows`: a class each, the rarest in train first. `methods`: sentences. `halves`: mean recalls.

    `halves`: {name of a column: (rarer half, commoner half)}, the class in the middle left out of both; empty
    without classes. `columns`: {name: what it is} of all recalls. `word`: classes or labels. `focal`: whether
    a part of what was done has no offset.
    """

    rows: list[Row]
    methods: list[str]
    most: int
    least: int
    halves: dict[str, tuple[float, float]]
    columns: dict[str, str]
    word: str
    focal: bool


COLUMNS = {
    "recall": "recall",
    "recall_uncorrected": "recall, correction taken out",
    "recall_at_half": "recall at 50 %",
    "recall_at_half_uncorrected": "recall at 50 %, correction taken out",
}
"""Keys of the metrics by class, where they have them, and their names."""


def describe(
    training: Sequence[Row], tested: Sequence[Row], params: Mapping[str, Any], *, kind: str = "label"
) -> Balance | None:
    """`training`: rows of `imbalance`. `tested`: metrics by class. None where there is no training.

    `params`: the sections `train` and `objective` that the model was trained with. `kind`: of its targets.
    """
    if not training:
        return None
    known = {row["label"]: row for row in tested}
    columns = {key: name for key, name in COLUMNS.items() if all(key in row for row in tested)}
    rows = [
        {**row, **{key: known[row["label"]][key] for key in columns}, "test": known[row["label"]]["support"]}
        for row in sorted(training, key=lambda row: (row["train"], row["label"]))
        if row["label"] in known
    ]
    some = [row for row in rows if row["test"]]
    half = len(some) // 2
    return Balance(
        rows=rows,
        methods=_methods(params, METHODS if kind == "label" else LABELS),
        most=max(row["train"] for row in training),
        least=min(row["train"] for row in training),
        halves={key: (_mean(some[:half], key), _mean(some[-half:], key)) for key in columns if half},
        columns=columns,
        word="classes" if kind == "label" else "labels",
        focal=bool(params.get("objective", {}).get("focal")),
    )


def _methods(params: Mapping[str, Any], all_methods: Mapping[str, str]) -> list[str]:
    given = {**params.get("objective", {}), **params.get("train", {})}
    return [
        words.format(given[key]) for key, words in all_methods.items() if given.get(key, "none") not in NONE
    ]


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(sum(row[key] for row in rows) / len(rows))
