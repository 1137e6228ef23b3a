"""One small encoder a modality: a feature batch → a sequence and one pooled vector.

Each encoder normalises its own input by statistics of the train split, which it keeps as buffers, and never
looks past a sample's length: the answer does not depend on how far the batch was padded.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

WHITE = 255.0
"""What fills the square around a picture: 0 after normalisation, as the padding of the convolutions is."""


class Encoded(NamedTuple):
    """`sequence`: (B, T, C), C = the encoder's `sequence_dim`; `pooled`: (B, D).

    `mask`: float (B, T), 1 where a step is the sample's own, 0 past its length.
    """

    sequence: Tensor
    pooled: Tensor
    mask: Tensor


def length_mask(lengths: Tensor, steps: int) -> Tensor:
    """(B,) → float (B, steps): 1 before a sample's length, 0 from there on."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()


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


class _Block(nn.Module):
    """Convolution without bias → batch norm → ReLU, on pictures."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class _Steps(nn.Module):
    """Convolution over time of stride 2 → batch norm → ReLU, on sequences."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 9, 2, 4, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class _Project(nn.Sequential):
    """Pooled features (B, F) → (B, D)."""

    def __init__(self, inputs: int, dim: int, *, dropout: float, norm: bool = True) -> None:
        first = nn.LayerNorm(inputs) if norm else nn.Identity()
        super().__init__(nn.Dropout(dropout), first, nn.Linear(inputs, dim), nn.SiLU())


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
        self.stages = nn.ModuleList(
            nn.Sequential(_Block(a, b), nn.MaxPool2d(2, ceil_mode=True)) for a, b in pairwise(widths)
        )
        self.project = _Project(2 * sum(widths), dim, dropout=dropout)
        self.sequence_dim = widths[-1]
        self.flip = flip

    def forward(self, x: Tensor, _lengths: Tensor) -> Encoded:
        """`x`: (B, 3, H, W) in 0 … 255, uint8 or float."""
        x = self.normalize(x).contiguous(memory_format=torch.channels_last)
        encoded = self._encode(x)
        if self.training or not self.flip:
            return encoded
        return encoded._replace(pooled=(encoded.pooled + self._encode(x.flip(3)).pooled) / 2)

    def _encode(self, x: Tensor) -> Encoded:
        x = self.stem(x)
        pooled = [x.mean((2, 3)), x.amax((2, 3))]
        for stage in self.stages:
            x = stage(x)
            pooled += [x.mean((2, 3)), x.amax((2, 3))]
        places = x.flatten(2).transpose(1, 2)
        return Encoded(places, self.project(torch.cat(pooled, 1).float()), torch.ones_like(places[:, :, 0]))


class TextGRU(nn.Module):
    """A TF-IDF weighted bag of token vectors ‖ maximum and mean over time of a bidirectional GRU.

    A token that no train text has weighs nothing: its vector was never fitted. That holds for pieces of words
    where the vocabulary is large enough for whole ones, and for padding and dropped tokens (id 0).
    """

    idf: Tensor
    GAIN = 3.0

    def __init__(
        self, dim: int, *, vocab_size: int, dropout: float = 0.0, width: int = 96, hidden: int = 64
    ) -> None:
        super().__init__()
        self.register_buffer("idf", torch.ones(vocab_size))
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.ahead = nn.GRU(width, hidden, batch_first=True)
        self.back = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.project = _Project(width + 4 * hidden, dim, dropout=dropout, norm=False)
        self.sequence_dim = 2 * hidden

    def fit(self, texts: int, containing: Tensor) -> None:
        """Inverse document frequencies. `containing`: (vocabulary,), how many train `texts` have a token."""
        idf = ((1 + texts) / (1 + containing.double())).log() + 1
        self.idf.copy_(torch.where(containing > 0, idf, 0))

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: int (B, T) token ids."""
        mask = length_mask(lengths, x.shape[1])[:, :, None]
        weight = self.idf[x.long()][:, :, None] * mask
        words = self.embed(x.long()) * weight
        bag = words.sum(1) / (weight.square().sum(1) + 1).sqrt() * self.GAIN
        hidden = self._both_ways(self.dropout(words / (weight.square() + 1).sqrt() * self.GAIN), lengths)
        most = (hidden * mask - 2 * (1 - mask)).amax(1)  # a GRU's output lies in -1 … 1
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return Encoded(hidden * mask, self.project(torch.cat([bag, most, mean], 1)), mask[:, :, 0])

    def _both_ways(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The backward GRU reads each sample from its own last token, so padding is never before it."""
        steps = torch.arange(x.shape[1], device=x.device)
        mirror = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)[:, :, None]
        with torch.autocast(x.device.type, enabled=False):
            ahead, _ = self.ahead(x.float())
            back, _ = self.back(x.float().gather(1, mirror.expand_as(x)))
        return torch.cat([ahead, back.gather(1, mirror.expand_as(back))], 2)


class AudioCNN(nn.Module):
    """Convolutions over the time of a log-mel spectrogram; mean, deviation and maximum over time."""

    def __init__(
        self, dim: int, *, n_mels: int, dropout: float = 0.0, widths: Sequence[int] = (64, 96)
    ) -> None:
        super().__init__()
        self.normalize = Normalize(n_mels, axis=2)
        self.stages = nn.ModuleList(_Steps(a, b) for a, b in pairwise([n_mels, *widths]))
        self.project = _Project(3 * widths[-1], dim, dropout=dropout)
        self.sequence_dim = widths[-1]

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: (B, T, M) log-mel."""
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
