"""Encoders of spectrograms: convolutions, alone or before a recurrent network."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.parts import (
    Encoded,
    Normalize,
    Project,
    Train,
    both_ways,
    length_mask,
    mean_over,
    most_over,
)


class _Steps(nn.Module):
    """Convolution over time of stride 2 → batch norm → ReLU, on sequences."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 9, 2, 4, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class _Patches(nn.Module):
    """Convolution over time and bands of stride 2 in both → batch norm → ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class AudioCNN(nn.Module):
    """Convolutions over the time of a spectrogram; mean, deviation and maximum over time."""

    def __init__(
        self, dim: int, *, n_mels: int, dropout: float = 0.0, widths: Sequence[int] = (64, 96)
    ) -> None:
        super().__init__()
        self.normalize = Normalize(n_mels, axis=2)
        self.stages = nn.ModuleList(_Steps(a, b) for a, b in pairwise([n_mels, *widths]))
        self.project = Project(3 * widths[-1], dim, dropout=dropout)
        self.sequence_dim = widths[-1]

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Moments of each band of the train split."""
        self.normalize.fit(*train.moments(modality))

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: (B, T, M), M values a frame."""
        mask = length_mask(lengths, x.shape[1])
        maps = (self.normalize(x) * mask[:, :, None]).transpose(1, 2)
        for stage in self.stages:
            lengths = (lengths + 1) // 2
            maps = stage(maps)
            mask = length_mask(lengths, maps.shape[2])
            maps = maps * mask[:, None]
        maps = maps.float()
        weight = (mask / mask.sum(1, keepdim=True).clamp(min=1))[:, None]
        mean = (maps * weight).sum(2)
        deviation = ((maps - mean[:, :, None]).square() * weight).sum(2).add(1e-4).sqrt()
        pooled = torch.cat(
            [mean, deviation, maps.amax(2)], 1
        )  # what ReLU gives is never below the padding's 0
        return Encoded(maps.transpose(1, 2), self.project(pooled), mask)


class AudioCRNN(nn.Module):
    """Convolutions over time and bands, a quarter as many steps, then a bidirectional GRU; mean and maximum.

    Padding is set to 0 before each convolution, as if there were nothing.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_mels: int,
        dropout: float = 0.0,
        widths: Sequence[int] = (16, 32),
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(n_mels, axis=2)
        self.stages = nn.ModuleList(_Patches(a, b) for a, b in pairwise([1, *widths]))
        bands = n_mels
        for _ in widths:
            bands = (bands + 1) // 2
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(widths[-1] * bands, 2 * hidden)
        self.ahead = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.back = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.project = Project(4 * hidden, dim, dropout=dropout)
        self.sequence_dim = 2 * hidden

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Moments of each band of the train split."""
        self.normalize.fit(*train.moments(modality))

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: (B, T, M), M values a frame."""
        mask = length_mask(lengths, x.shape[1])
        maps = self.normalize(x)[:, None] * mask[:, None, :, None]
        for stage in self.stages:
            lengths = (lengths + 1) // 2
            maps = stage(maps)
            mask = length_mask(lengths, maps.shape[2])
            maps = maps * mask[:, None, :, None]
        steps = self.narrow(maps.transpose(1, 2).flatten(2))
        hidden = both_ways(self.ahead, self.back, self.dropout(functional.relu(steps)), lengths)
        hidden = hidden * mask[:, :, None]
        pooled = torch.cat([mean_over(hidden, mask), most_over(hidden, mask)], 1)
        return Encoded(hidden, self.project(pooled), mask)
