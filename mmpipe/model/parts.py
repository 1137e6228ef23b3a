"""What encoders are made of: masks, moments of the train split, a GRU both ways, pooling."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Encoded(NamedTuple):
    """`sequence`: (B, T, C), C = the encoder's `sequence_dim`; `pooled`: (B, D).

    `mask`: float (B, T), 1 where a step is the sample's own and counts, 0 past its length.
    """

    sequence: Tensor
    pooled: Tensor
    mask: Tensor


class Train(Protocol):
    """What an encoder may ask of the train split: see `batches.Dataset`."""

    def moments(self, modality: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel: two float32 (C,)."""

    def containing(self, modality: str, vocabulary: int) -> Tensor:
        """How many samples have each token id: int64 (vocabulary,)."""

    def having(self, modality: str) -> int:
        """How many samples have the modality."""


def length_mask(lengths: Tensor, steps: int) -> Tensor:
    """(B,) → float (B, steps): 1 before a sample's length, 0 from there on."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()


def all_steps(sequence: Tensor) -> Tensor:
    """(B, T, C) → float (B, T): every step counts."""
    return torch.ones(sequence.shape[:2], device=sequence.device)


class Normalize(nn.Module):
    """(x - mean) / deviation along the last axis or axis 1; the deviation is the train split's."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, *, axis: int) -> None:
        super().__init__()
        self.shape = [channels, 1, 1] if axis == 1 else [channels]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Take over the moments, each (C,)."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, x: Tensor) -> Tensor:
        """Any dtype → float32 of the same shape."""
        return (x.float() - self.mean.view(self.shape)) / self.deviation.view(self.shape)


class Project(nn.Sequential):
    """Pooled features (B, F) → (B, D)."""

    def __init__(self, inputs: int, dim: int, *, dropout: float, norm: bool = True) -> None:
        first = nn.LayerNorm(inputs) if norm else nn.Identity()
        super().__init__(nn.Dropout(dropout), first, nn.Linear(inputs, dim), nn.SiLU())


def both_ways(ahead: nn.GRU, back: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F) → (B, T, 2 × hidden), in float32.

    `back` reads each sample from its own last step, so padding is never before it.
    """
    steps = torch.arange(x.shape[1], device=x.device)
    mirror = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)[:, :, None]
    with torch.autocast(x.device.type, enabled=False):
        forth, _ = ahead(x.float())
        reverse, _ = back(x.float().gather(1, mirror.expand_as(x)))
    return torch.cat([forth, reverse.gather(1, mirror.expand_as(reverse))], 2)


def mean_over(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, F), float (B, T) → (B, F): the mean over the steps that count."""
    return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def most_over(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, F), float (B, T) → (B, F): the maximum over the steps that count; 0 without any."""
    far = torch.where(mask[:, :, None] > 0, x, torch.finfo(x.dtype).min).amax(1)
    return torch.where(mask.any(1, keepdim=True), far, torch.zeros_like(far))
