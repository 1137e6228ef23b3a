"""Connectionist temporal classification as a loss: -log p of a transcript by all of its paths, by torch."""

import torch
from torch import Tensor
from torch.nn import functional

from mmpipe.transcripts.units import BLANK


def loss(logits: Tensor, frames: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the samples of -log p a unit, nats: a scalar.

    `logits`: (B, T, ids). `frames`: (B,), those of each sample that count. `targets`: int (B, L) unit ids,
    `lengths`: (B,). A sample with too few frames for its transcript (`alignable`) or without one counts as 0.
    """
    log_probs = functional.log_softmax(logits.float(), 2).transpose(0, 1)
    device = torch.device("cpu") if torch.are_deterministic_algorithms_enabled() else logits.device
    # On a GPU, torch's own kernel for the gradient adds in no fixed order.
    each = functional.ctc_loss(
        log_probs.to(device),
        targets.to(device),
        frames.to(device),
        lengths.to(device),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return (each / lengths.to(device).clamp(min=1) * (lengths > 0).to(device)).mean().to(logits.device)


def alignable(frames: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """bool (B,): whether there are frames enough: one a unit, and a blank between two that are the same."""
    inside = torch.arange(1, targets.shape[1], device=targets.device) < lengths[:, None]
    repeated = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
    return frames >= lengths + repeated
