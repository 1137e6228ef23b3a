"""What each modality of a sample adds to what is predicted of it: exact Shapley values.

The game of a sample: its modalities are the players, and a subset of them is worth what the model says of the
answer when it sees that subset alone: the predicted label's probability, the number (Shapley 1953; Lundberg &
Lee 2017, eq. 4). With up to three modalities there are at most eight subsets, so nothing is sampled or
approximated.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from mmpipe.scorecard import subsets_of

NOTHING = ""
"""The subset without any modality: the model with everything absent."""


@dataclass(frozen=True)
class Shares:
    """What each modality of a sample adds to the answer, and the `baseline` with everything absent."""

    contributions: dict[str, float]
    baseline: float


def games(modalities: Sequence[str]) -> list[str]:
    """The subsets whose worth is needed: every one, and none."""
    return [NOTHING, *subsets_of(modalities)]


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


def shares(worth: Mapping[str, NDArray[np.float64]], given: Sequence[Collection[str]]) -> list[Shares]:
    """One a sample. `worth`: {subset: (N,)} of `games`; `given`: the modalities that each sample has."""
    found = []
    for row, modalities in enumerate(given):
        own = {subset: float(values[row]) for subset, values in worth.items()}
        found.append(Shares(shapley(own, list(modalities)), own[NOTHING]))
    return found
