"""What a network is worth on held-out samples, and how far to trust each of its modalities."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmpipe import batches
from mmpipe.calibration import fit_temperature
from mmpipe.model.network import Network
from mmpipe.runtime import Runtime

BATCH = 256
TRUST = (0.05, 3.0)
"""Bounds."""
PULL = 0.05


def score(model: Network, data: batches.Dataset, machine: Runtime) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and targets (N,) of a whole dataset, in its order, on its device."""
    model.eval()
    logits, rows = [], np.arange(len(data))
    with torch.no_grad(), machine.autocast():
        for part in batches.chunks(rows, BATCH):
            logits.append(model(data.batch(part).to(machine.device)).logits)
    return torch.cat(logits), data.target.to(machine.device)


def measure(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Accuracy and cross-entropy, as it is and at the temperature that suits it best."""
    wide = logits.double()
    temperature = fit_temperature(wide.cpu().numpy(), target.cpu().numpy())
    found = {
        "val_accuracy": (logits.argmax(1) == target).double().mean(),
        "val_loss": functional.cross_entropy(wide, target),
        "val_loss_calibrated": functional.cross_entropy(wide / temperature, target),
    }
    return {name: round(float(value), 6) for name, value in found.items()}


def fit_trust(network: Network, data: batches.Dataset, machine: Runtime) -> None:
    """Set how much each modality counts beside others: the least cross-entropy on held-out `data`.

    A weak modality that is sure of what it learnt by heart would outvote the others. Every subset of two or
    more modalities has a say, all of them together the most; a weak pull to 1 keeps few samples from deciding
    much. The scales hold the temperature of those subsets too.
    """
    names = network.modalities
    if len(names) < 2 or len(data) == 0:
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
                total = total + share * functional.cross_entropy(logits, part.target, reduction="sum")
        total.backward(inputs=[logs])  # type: ignore[no-untyped-call]
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]
    network.trust = logs.detach().exp().clamp(*TRUST)


def _several(names: list[str]) -> list[tuple[str, ...]]:
    """Every subset of two or more."""
    return [subset for size in range(2, len(names) + 1) for subset in combinations(names, size)]
