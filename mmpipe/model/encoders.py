"""One small encoder a modality: a feature batch → a sequence and one pooled vector.

Each encoder normalises its own input by the moments of the train split, which it keeps as buffers, and never
looks past a sample's length: the answer does not depend on how far the batch was padded.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = -1e4
"""Stands for minus infinity under a mask: finite in every dtype used."""


class Encoded(NamedTuple):
    """`sequence`: (B, T, C), C = the encoder's `sequence_dim`; `pooled`: (B, D)."""

    sequence: Tensor
    pooled: Tensor


def length_mask(lengths: Tensor, steps: int) -> Tensor:
    """(B,) → float (B, steps): 1 before a sample's length, 0 from there on."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()


class Normalize(nn.Module):
    """(x - mean) / deviation along the last axis or axis 1, by moments of the train split."""

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


class _Block(nn.Module):
    """Convolution without bias → batch norm → SiLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.conv(x)))


class _Project(nn.Sequential):
    """Pooled features (B, F) → (B, D)."""

    def __init__(self, inputs: int, dim: int, *, dropout: float) -> None:
        super().__init__(nn.Dropout(dropout), nn.LayerNorm(inputs), nn.Linear(inputs, dim), nn.SiLU())


class ImageCNN(nn.Module):
    """Convolutions that halve the side at every stage; mean and maximum of every stage are pooled.

    In evaluation the pooled vector is the mean over the picture and its mirror image where `flip` is set.
    """

    def __init__(
        self, dim: int, *, dropout: float = 0.0, widths: Sequence[int] = (24, 48, 96, 128), flip: bool = True
    ) -> None:
        super().__init__()
        self.normalize = Normalize(3, axis=1)
        self.stem = _Block(3, widths[0], kernel=5, stride=2)
        self.stages = nn.ModuleList(nn.Sequential(_Block(a, b), nn.MaxPool2d(2)) for a, b in pairwise(widths))
        self.project = _Project(2 * sum(widths), dim, dropout=dropout)
        self.sequence_dim = widths[-1]
        self.flip = flip

    def forward(self, x: Tensor, _lengths: Tensor) -> Encoded:
        """`x`: (B, 3, H, W) in 0 … 255, uint8 or float."""
        x = self.normalize(x)
        encoded = self._encode(x)
        if self.training or not self.flip:
            return encoded
        return Encoded(encoded.sequence, (encoded.pooled + self._encode(x.flip(3)).pooled) / 2)

    def _encode(self, x: Tensor) -> Encoded:
        x = self.stem(x)
        pooled = [x.mean((2, 3)), x.amax((2, 3))]
        for stage in self.stages:
            x = stage(x)
            pooled += [x.mean((2, 3)), x.amax((2, 3))]
        return Encoded(x.flatten(2).transpose(1, 2), self.project(torch.cat(pooled, 1).float()))


class TextGRU(nn.Module):
    """Bag of tokens ‖ maximum of a convolution ‖ maximum and mean of a bidirectional GRU.

    Token id `vocab_size` is this encoder's own: it stands for a token dropped in training.
    """

    def __init__(
        self, dim: int, *, vocab_size: int, dropout: float = 0.0, width: int = 96, hidden: int = 64
    ) -> None:
        super().__init__()
        self.drop_token = vocab_size
        self.embed = nn.Embedding(vocab_size + 1, width)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.ahead = nn.GRU(width, hidden, batch_first=True)
        self.back = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.project = _Project(2 * width + 4 * hidden, dim, dropout=dropout)
        self.sequence_dim = 2 * hidden

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: int (B, T) token ids."""
        mask = length_mask(lengths, x.shape[1])[:, :, None]
        count = mask.sum(1).clamp(min=1)
        words = self.dropout(self.embed(x.long())) * mask
        near = functional.silu(self.conv(words.transpose(1, 2)).transpose(1, 2)).float()
        hidden = self._both_ways((words + near) * mask, lengths)
        shut = HIDDEN * (1 - mask)
        pooled = [
            words.sum(1) / count.sqrt(),
            (near * mask + shut).amax(1),
            (hidden * mask + shut).amax(1),
            (hidden * mask).sum(1) / count,
        ]
        return Encoded(hidden * mask, self.project(torch.cat(pooled, 1)))

    def _both_ways(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The backward GRU reads each sample from its own last token, so padding is never before it."""
        steps = torch.arange(x.shape[1], device=x.device)
        mirror = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)[:, :, None]
        with torch.autocast(x.device.type, enabled=False):
            ahead, _ = self.ahead(x.float())
            back, _ = self.back(x.float().gather(1, mirror.expand_as(x)))
        return torch.cat([ahead, back.gather(1, mirror.expand_as(back))], 2)


class AudioCNN(nn.Module):
    """Convolutions over log-mel; mean and deviation over time of two bands ‖ of every mel ‖ the duration."""

    def __init__(
        self, dim: int, *, n_mels: int, dropout: float = 0.0, widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        self.normalize = Normalize(n_mels, axis=2)
        self.stages = nn.ModuleList(_Block(a, b, stride=2) for a, b in pairwise([1, *widths]))
        self.statistics = nn.LayerNorm(2 * n_mels + 1)
        self.project = _Project(4 * widths[-1] + 2 * n_mels + 1, dim, dropout=dropout)
        self.sequence_dim = 2 * widths[-1]

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: (B, T, M) log-mel."""
        mask = length_mask(lengths, x.shape[1])
        x = self.normalize(x) * mask[:, :, None]
        duration = lengths.clamp(min=1).float().log()[:, None]
        statistics = self.statistics(torch.cat([_pool_time(x, mask), duration], 1))
        maps = x[:, None]
        for stage in self.stages:
            lengths = (lengths + 1) // 2
            maps = stage(maps)
            mask = length_mask(lengths, maps.shape[2])
            maps = maps * mask[:, None, :, None]
        bands = torch.cat([part.mean(3) for part in maps.float().tensor_split(2, 3)[: maps.shape[3]]], 1)
        sequence = functional.pad(bands, (0, 0, 0, self.sequence_dim - bands.shape[1])).transpose(1, 2)
        return Encoded(sequence, self.project(torch.cat([_pool_time(sequence, mask), statistics], 1)))


def _pool_time(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, C), (B, T) → (B, 2C): mean and standard deviation over the valid steps."""
    weight = (mask / mask.sum(1, keepdim=True).clamp(min=1))[:, :, None]
    mean = (x * weight).sum(1)
    deviation = ((x - mean[:, None]).square() * weight).sum(1).add(1e-4).sqrt()
    return torch.cat([mean, deviation], 1)
