"""Encoders of pictures: convolutions, plain or residual."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.parts import Encoded, Normalize, Project, Train, all_steps

WHITE = 255.0
"""What fills the square around a picture: 0 after normalisation, as the padding of the convolutions is."""


class _Block(nn.Module):
    """Convolution without bias → batch norm → ReLU, on pictures."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, figure 2); a shortcut that shrinks is a mean."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = _Block(inputs, outputs, stride=stride)
        self.conv = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm.weight)  # at first the block is its shortcut
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.norm(self.conv(self.first(x))))


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
        self.project = Project(2 * sum(widths), dim, dropout=dropout)
        self.sequence_dim = widths[-1]
        self.flip = flip

    def fit_statistics(self, train: Train, modality: str) -> None:
        """The spread of each colour around white."""
        _fit(self.normalize, train, modality)

    def forward(self, x: Tensor, _lengths: Tensor) -> Encoded:
        """`x`: (B, 3, H, W) in 0 … 255, uint8 or float."""
        x = self.normalize(x).contiguous(memory_format=torch.channels_last)
        return _encode(self._encode, x, mirror=self.flip and not self.training)

    def _encode(self, x: Tensor) -> Encoded:
        x = self.stem(x)
        pooled = [x.mean((2, 3)), x.amax((2, 3))]
        for stage in self.stages:
            x = stage(x)
            pooled += [x.mean((2, 3)), x.amax((2, 3))]
        places = x.flatten(2).transpose(1, 2)
        return Encoded(places, self.project(torch.cat(pooled, 1).float()), all_steps(places))


class ImageResNet(nn.Module):
    """Two residual blocks a stage, each stage half as wide; mean and maximum of the last are pooled.

    In evaluation the pooled vector is the mean over the picture and its mirror image where `flip` is set.
    """

    def __init__(
        self, dim: int, *, dropout: float = 0.0, widths: Sequence[int] = (32, 64, 128), flip: bool = True
    ) -> None:
        super().__init__()
        self.normalize = Normalize(3, axis=1)
        self.stem = _Block(3, widths[0], stride=2)
        ends = pairwise([widths[0], *widths])
        self.stages = nn.Sequential(
            *(nn.Sequential(_Residual(a, b, stride=2), _Residual(b, b, stride=1)) for a, b in ends)
        )
        self.project = Project(2 * widths[-1], dim, dropout=dropout)
        self.sequence_dim = widths[-1]
        self.flip = flip

    def fit_statistics(self, train: Train, modality: str) -> None:
        """The spread of each colour around white."""
        _fit(self.normalize, train, modality)

    def forward(self, x: Tensor, _lengths: Tensor) -> Encoded:
        """`x`: (B, 3, H, W) in 0 … 255, uint8 or float."""
        x = self.normalize(x).contiguous(memory_format=torch.channels_last)
        return _encode(self._encode, x, mirror=self.flip and not self.training)

    def _encode(self, x: Tensor) -> Encoded:
        x = self.stages(self.stem(x))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        places = x.flatten(2).transpose(1, 2)
        return Encoded(places, self.project(pooled.float()), all_steps(places))


def _fit(normalize: Normalize, train: Train, modality: str) -> None:
    _, deviation = train.moments(modality)
    normalize.fit(torch.full_like(deviation, WHITE), deviation)


def _encode(encode: Callable[[Tensor], Encoded], x: Tensor, *, mirror: bool) -> Encoded:
    """With `mirror`, the pooled vector is the mean over the picture and its mirror image."""
    encoded = encode(x)
    if not mirror:
        return encoded
    return encoded._replace(pooled=(encoded.pooled + encode(x.flip(3)).pooled) / 2)
