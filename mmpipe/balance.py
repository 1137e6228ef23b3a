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
NONE = ("none", "natural", 0)


@dataclass(frozen=True)
class Balance:
    """`rows`: a class each, the rarest in train first. `methods`: sentences. `rare`, `common`: mean recalls.

    Each of the two is of half of the classes, the one in the middle left out of both; None without classes.
    """

    rows: list[Row]
    methods: list[str]
    most: int
    least: int
    rare: float | None
    common: float | None


def describe(training: Sequence[Row], tested: Sequence[Row], params: Mapping[str, Any]) -> Balance | None:
    """`training`: rows of `imbalance.describe`. `tested`: metrics by class. None where there is no training.

    `params`: the sections `train` and `objective` that the model was trained with.
    """
    if not training:
        return None
    recall = {row["label"]: (row["recall"], row["support"]) for row in tested}
    rows = [
        {**row, "recall": recall[row["label"]][0], "test": recall[row["label"]][1]}
        for row in sorted(training, key=lambda row: (row["train"], row["label"]))
        if row["label"] in recall
    ]
    found = [row["recall"] for row in rows if row["test"]]
    half = len(found) // 2
    return Balance(
        rows=rows,
        methods=_methods(params),
        most=max(row["train"] for row in training),
        least=min(row["train"] for row in training),
        rare=_mean(found[:half]),
        common=_mean(found[len(found) - half :]),
    )


def _methods(params: Mapping[str, Any]) -> list[str]:
    given = {**params.get("objective", {}), **params.get("train", {})}
    return [words.format(given[key]) for key, words in METHODS.items() if given.get(key, "none") not in NONE]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
