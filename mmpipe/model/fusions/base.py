"""What every fusion is: its level, what it reads of the encoders, and how it comes by its own weights."""

from typing import ClassVar, Literal

from torch import nn


class Fusion(nn.Module):
    """Feature level: `forward(encoded, weight)` → (B, `out_dim`), which the head reads.

    Model level: `forward(opinions, weight)` → (B, K), the answer itself, of each modality's own (B, K).
    `weight`: {modality: (B,)}, 0 = absent, 1 = counts fully. What an absent modality holds never counts.
    """

    level: ClassVar[Literal["feature", "model"]] = "feature"
    sequences: ClassVar[bool] = False
    """Whether it reads the encoders' sequences; else they are not kept."""
    trained: ClassVar[bool] = True
    """Whether the loss of its answer trains the network; else only each modality's own loss does."""
    trusted: ClassVar[bool] = True
    """Whether `trust`, fitted on held-out samples, may scale the modalities' weights."""
    out_dim: int = 0
    """Width of the fused vector; 0 at model level."""

    def facts(self) -> dict[str, float]:
        """What it learned, where that is a few numbers that people can read."""
        return {}
