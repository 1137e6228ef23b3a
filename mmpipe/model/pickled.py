"""The one door for weights that exist as a pickle alone: known bytes, opened without running any code.

See docs/decisions/0007: `weights.find` has compared the file's sha256 with the one written in the source.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from mmpipe.model.efficientnet import STAGES

ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""The package's names → timm's, at both ends, in the first block and in the others."""


def load(path: Path) -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights by the names of `model.efficientnet`, without its classifier."""
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {_name(old): value for old, value in found.items() if not old.startswith("_fc.")}


def _name(old: str) -> str:
    places = [(stage, index) for stage, row in enumerate(STAGES) for index in range(row[0])]
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", old):
        stage, index = places[int(match[1])]
        return f"blocks.{stage}.{index}.{(OTHER if stage else FIRST)[match[2]]}.{match[3]}"
    part, _, rest = old.partition(".")
    return f"{ENDS[part]}.{rest}"
