"""What a network is worth on held-out samples, and how far to trust each of its modalities."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mmpipe import batches
from mmpipe.model.network import Network
from mmpipe.runtime import Runtime
from mmpipe.tasks.task import Held, Loss, Output, Task, joined

BATCH = 256
TRUST = (0.05, 3.0)
"""Bounds."""
PULL = 0.05


def score(model: Network, data: batches.Dataset, machine: Runtime) -> Held:
    """What a model makes of a whole dataset, in its order, on its device."""
    model.eval()
    found, rows = [], np.arange(len(data))
    if len(data) == 0:
        none, nobody = torch.zeros(0, model.outputs), torch.zeros(0, dtype=torch.bool)
        single = dict.fromkeys(model.modalities, none)
        return Held(Output(none, single), data.target, dict.fromkeys(model.modalities, nobody))
    with torch.no_grad(), machine.autocast():
        for part in batches.chunks(rows, BATCH):
            batch = data.batch(part).to(machine.device)
            output = model.decode(model.encode(batch), batch.present, batch.target)
            found.append((output, batch.present))
    present = {m: torch.cat([here[m] for _, here in found]) for m in model.modalities}
    return Held(joined([output for output, _ in found]), data.target.to(machine.device), present)


def measure(task: Task, held: Held) -> dict[str, float]:
    """The task's own figures, named `val_…`."""
    return task.validate(held)


def fit_trust(network: Network, data: batches.Dataset, machine: Runtime, *, each: Loss) -> None:
    """Set how much each modality counts beside others: the least loss on held-out `data`.

    `each`: that of training, as far as it counts rare classes for more.

    A weak modality that is sure of what it learnt by heart would outvote the others. Every subset of two or
    more modalities has a say, all of them together the most; a weak pull to 1 keeps few samples from deciding
    much. The scales hold the temperature of those subsets too.
    """
    names = network.modalities
    held_out = len(data) > 0 and network.task.fuses and network.fusion.trusted
    if len(names) < 2 or not held_out:
        return
    network.eval()
    with torch.no_grad():
        parts = [data.batch(part).to(machine.device) for part in batches.chunks(np.arange(len(data)), BATCH)]
        pooled = [network.encode(part) for part in parts]
    logs = torch.zeros(len(names), device=machine.device, requires_grad=True)
    solver = torch.optim.LBFGS([logs], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        network.trust = logs.exp()
        total = PULL * logs.square().sum()
        for subset in _several(names):
            share = (1.0 if len(subset) == len(names) else 0.5) / len(data)
            for z, part in zip(pooled, parts, strict=True):
                present = {m: part.present[m] & (m in subset) for m in names}
                logits = network.decode(z, present).logits
                total = total + share * each(logits, part.target).sum()
        total.backward(inputs=[logs])  # type: ignore[no-untyped-call]
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]
    network.trust = logs.detach().exp().clamp(*TRUST)


def _several(names: list[str]) -> list[tuple[str, ...]]:
    """Every subset of two or more."""
    return [subset for size in range(2, len(names) + 1) for subset in combinations(names, size)]
