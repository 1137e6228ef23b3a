"""What a network is worth on held-out samples, and how far to trust each of its modalities."""

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmpipe import batches
from mmpipe.calibration import fit_temperature
from mmpipe.model.network import Network
from mmpipe.runtime import Runtime

BATCH = 256
TRUST = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


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
    """Set how far each modality counts: the grid point with the least calibrated loss on `data`.

    A weak modality that is sure of what it learnt by heart would outvote the others. Fitted on held-out data.
    """
    names = network.modalities
    network.eval()
    parts = [data.batch(part).to(machine.device) for part in batches.chunks(np.arange(len(data)), BATCH)]
    with torch.no_grad():
        pooled = [network.encode(part) for part in parts]
        best = math.inf
        for point in sorted(product(TRUST, repeat=len(names)), reverse=True):
            if max(point) < 1:
                continue
            network.trust.copy_(torch.tensor(point))
            logits = [network.decode(z, part.present).logits for z, part in zip(pooled, parts, strict=True)]
            loss = measure(torch.cat(logits), torch.cat([part.target for part in parts]))[
                "val_loss_calibrated"
            ]
            if loss < best:
                best, chosen = loss, point
        network.trust.copy_(torch.tensor(chosen))
