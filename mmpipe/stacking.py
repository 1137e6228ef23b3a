"""The combiner of fusion `stacking`, fitted on what models say of samples that they were not trained on.

The train split is dealt into folds; no group lies in two of them. A model that has not seen a fold gives its
modalities' opinions of it, and the combiner is fitted on all these opinions together (Wolpert 1992; Breiman
1996). The model that is kept is trained on the whole split. Text pieces are the exception: the tokenizer was
fitted on all texts of the split, without their labels.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpipe import batches
from mmpipe.model.fusions.opinions import Stacking
from mmpipe.model.network import Network
from mmpipe.tasks.task import Loss

BATCH = 256
PULL = 0.01
"""Weight of the squared distance from the plain mean, which few samples are not to leave far behind."""


class Opinions(NamedTuple):
    """Of N samples, {modality: float64 (N, K)} and which of them count, {modality: bool (N,)}."""

    said: dict[str, Tensor]
    present: dict[str, Tensor]


def out_of_fold(
    data: batches.Dataset, folds: Sequence[int], train: Callable[[int, batches.Dataset], Network]
) -> Opinions:
    """What is said of each sample by a model that was trained without its fold, in the order of `data`.

    `train(k, some)` gives the model for fold k, trained on `some`.
    """
    number = np.array(folds)
    found: list[tuple[np.ndarray, Opinions]] = []
    for fold in range(number.max() + 1):
        held, rest = (np.flatnonzero(part) for part in (number == fold, number != fold))
        found.append((held, opinions(train(fold, data.take(rest)), data.take(held))))
    back = torch.from_numpy(np.argsort(np.concatenate([held for held, _ in found])))
    parts = [one for _, one in found]
    return Opinions(
        {m: torch.cat([part.said[m] for part in parts])[back] for m in parts[0].said},
        {m: torch.cat([part.present[m] for part in parts])[back] for m in parts[0].present},
    )


@torch.no_grad()
def opinions(network: Network, data: batches.Dataset) -> Opinions:
    """Each modality's own opinion of a whole dataset, on the CPU, in float32 arithmetic."""
    device = network.device
    data = data.to(device)
    network.eval()
    outputs, present = [], []
    for rows in batches.chunks(np.arange(len(data)), BATCH):
        batch = data.batch(rows).to(device)
        outputs.append(network(batch).by_modality)
        present.append(batch.present)
    return Opinions(
        {m: torch.cat([one[m] for one in outputs]).double().cpu() for m in network.modalities},
        {m: torch.cat([one[m] for one in present]).cpu() for m in network.modalities},
    )


def fit(fusion: Stacking, found: Opinions, target: Tensor, *, each: Loss) -> dict[str, float]:
    """Fit the combiner: the least loss over all subsets of modalities, all together the most.

    Returns the mean loss with all modalities, before (of their mean) and after: the second is measured on
    what it was fitted on. `target`: (N, …). `each`: the loss that the opinions were trained by, as far as it
    counts rare classes for more: fitted by another, the bias would put their rarity back.
    """
    target = target.cpu()
    fitted = Stacking(fusion.modalities, target_width(found)).double()
    start = [parameter.detach().clone() for parameter in fitted.parameters()]
    solver = torch.optim.LBFGS(fitted.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        moved = zip(fitted.parameters(), start, strict=True)
        total = PULL * torch.stack([(now - before).square().sum() for now, before in moved]).sum()
        for subset in _subsets(fusion.modalities):
            share = 1.0 if len(subset) == len(fusion.modalities) else 0.5
            total = total + share * _mean(each, fitted, found, target, subset)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    everything = tuple(fusion.modalities)
    with torch.no_grad():
        before = _mean(each, fitted, found, target, everything)
    solver.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        after = _mean(each, fitted, found, target, everything)
    fusion.load_state_dict(fitted.state_dict())
    return {"mean_loss": round(float(before), 6), "stacked_loss": round(float(after), 6)}


def target_width(found: Opinions) -> int:
    """K, the width of an opinion."""
    return int(next(iter(found.said.values())).shape[1])


def _mean(each: Loss, fitted: Stacking, found: Opinions, target: Tensor, subset: tuple[str, ...]) -> Tensor:
    """Mean loss over the samples that have a modality of the subset; 0 for none."""
    weight: Mapping[str, Tensor] = {m: (here & (m in subset)).double() for m, here in found.present.items()}
    some = torch.stack(list(weight.values())).sum(0) > 0
    losses = each(fitted(found.said, weight), target)
    return torch.where(some, losses, 0).sum() / some.sum().clamp(min=1)


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All that are not empty."""
    return [some for size in range(1, len(names) + 1) for some in combinations(names, size)]
