"""Encoders on top of a pretrained backbone: frozen, of which only vectors come here, or trained further."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmpipe import blueprint as blueprints
from mmpipe.errors import InvalidError
from mmpipe.model.parts import Encoded, Normalize, Project, Train, all_steps
from mmpipe.model.pretrained import build


class Vector(nn.Module):
    """One vector a sample, which a frozen backbone made at extraction, brought to the train split's scale."""

    def __init__(self, dim: int, *, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.normalize = Normalize(width, axis=2)
        self.project = Project(width, dim, dropout=dropout)
        self.sequence_dim = dim

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Moments of each component over the train split."""
        self.normalize.fit(*train.moments(modality))

    def forward(self, x: Tensor, _lengths: Tensor) -> Encoded:
        """`x`: (B, C). The sequence is the one pooled vector."""
        pooled: Tensor = self.project(self.normalize(x))
        return Encoded(pooled[:, None], pooled, all_steps(pooled[:, None]))


class FineTuned(nn.Module):
    """A backbone whose weights are trained, too, each sample's own way as at extraction.

    Of sound, the convolutions over the wave stay as they are, as their authors have it (Baevski et al. 2020,
    section 4.3). Raises InvalidError `weights-format` for a backbone that cannot be trained.
    """

    def __init__(self, dim: int, *, blueprint: Mapping[str, Any], dropout: float = 0.0) -> None:
        super().__init__()
        if not blueprints.learns(dict(blueprint)):
            raise InvalidError("weights-format", "describes a backbone that can only be frozen")
        self.backbone = build(blueprint)
        if self.backbone.modality == "audio":
            self.backbone.net.feature_extractor.requires_grad_(False)
        self.project = Project(self.backbone.width, dim, dropout=dropout)
        self.sequence_dim = self.backbone.sequence_width

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Nothing: the backbone was fitted to the scale that its blueprint names."""

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: as the backbone reads it."""
        encoded = self.backbone(x, lengths)
        return Encoded(encoded.sequence.float(), self.project(encoded.pooled.float()), encoded.mask)
