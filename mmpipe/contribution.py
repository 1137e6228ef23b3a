"""What each modality of a sample adds to its predicted label's probability: exact Shapley values.

The game of a sample: its modalities are the players, and a subset of them is worth the probability of the
predicted label when the model sees that subset alone (Shapley 1953; Lundberg & Lee 2017, eq. 4). With up to
three modalities there are at most eight subsets, so nothing is sampled or approximated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from mmpipe import evaluate, metrics
from mmpipe.batches import Dataset
from mmpipe.model.checkpoint import Bundle
from mmpipe.scorecard import subsets_of

NOTHING = ""
"""The subset without any modality: the model with everything absent."""


@dataclass(frozen=True)
class Shares:
    """One sample: `probabilities` (K,) of all its modalities together; their `contributions` to the highest.

    `baseline` is the same label's probability with everything absent: it and the contributions sum to
    `probabilities.max()`.
    """

    probabilities: NDArray[np.float64]
    contributions: dict[str, float]
    baseline: float


def shapley(worth: Mapping[str, float], players: Sequence[str]) -> dict[str, float]:
    """{player: its Shapley value}. `worth`: of every subset of the players, named "a+b" in sorted order.

    The values sum to the worth of all less the worth of none.
    """
    names, found = sorted(players), {}
    n = len(names)
    for player in names:
        others = [name for name in names if name != player]
        total = 0.0
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for some in combinations(others, size):
                total += weight * (worth["+".join(sorted((*some, player)))] - worth["+".join(some)])
        found[player] = total
    return found


def shares(bundle: Bundle, dataset: Dataset, *, batch_size: int) -> list[Shares]:
    """One a sample of `dataset` (features just computed); each modality is encoded once."""
    subsets = subsets_of(bundle.modalities)
    found = evaluate.logits(bundle.model, dataset, [NOTHING, *subsets], batch_size=batch_size)
    chances = {subset: metrics.softmax(scores, bundle.temperature) for subset, scores in found.items()}
    present = {m: column.lengths > 0 for m, column in dataset.columns.items()}
    return [
        _of_sample(
            {subset: rows[row] for subset, rows in chances.items()},
            full=subsets[-1],
            present=[m for m, here in present.items() if here[row]],
        )
        for row in range(len(dataset))
    ]


def _of_sample(chances: Mapping[str, NDArray[np.float64]], *, full: str, present: Sequence[str]) -> Shares:
    best = int(chances[full].argmax())
    worth = {subset: float(row[best]) for subset, row in chances.items()}
    return Shares(chances[full], shapley(worth, present), worth[NOTHING])
