"""EfficientNet-Lite0: a small convolutional network of pictures, with the names of weights that timm gives.

(Tan and Le 2019, without squeeze-and-excitation and with ReLU6, as released for ImageNet in 2020.)
"""

import math

from torch import Tensor, nn
from torch.nn import functional

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first, expansion, channels."""
STEM, WIDTH = 32, 1280
"""Channels after the first convolution, and after the last."""


class EfficientNetLite0(nn.Module):
    """Pictures → maps of 1,280 channels, 1/32 of their side (rounded up)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Same(3, STEM, 3, 2)
        self.bn1 = _norm(STEM)
        blocks, inputs = [], STEM
        for count, kernel, stride, expansion, outputs in STAGES:
            stage = nn.Sequential()
            for index in range(count):
                first = stride if index == 0 else 1
                if expansion == 1:
                    stage.append(_Separable(inputs, outputs, kernel, first))
                else:
                    stage.append(_Inverted(inputs, outputs, kernel, first, expansion))
                inputs = outputs
            blocks.append(stage)
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(inputs, WIDTH, 1, bias=False)
        self.bn2 = _norm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in about -1 … 1 → (B, 1280, H / 32, W / 32)."""
        x = functional.relu6(self.bn1(self.conv_stem(x)))
        return functional.relu6(self.bn2(self.conv_head(self.blocks(x))))


class _Same(nn.Conv2d):
    """TensorFlow's padding: the result is 1 / stride as large, rounded up, and the odd pixel comes last."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = ((math.ceil(n / stride) - 1) * stride + kernel - n for n in x.shape[2:])
        down, across = max(down, 0), max(across, 0)
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        return super().forward(functional.pad(x, sides))


class _Separable(nn.Module):
    """A convolution a channel, then one over channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _Same(inputs, inputs, kernel, stride, groups=inputs)
        self.bn1 = _norm(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(functional.relu6(self.bn1(self.conv_dw(x)))))
        return x + out if x.shape == out.shape else out


class _Inverted(nn.Module):
    """More channels, a convolution of each, fewer channels; beside it a shortcut where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.conv_dw = _Same(wide, wide, kernel, stride, groups=wide)
        self.bn2 = _norm(wide)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self.bn1(self.conv_pw(x)))
        wide = functional.relu6(self.bn2(self.conv_dw(wide)))
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return x + out if x.shape == out.shape else out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
