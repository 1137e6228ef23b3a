"""How encoded modalities become one vector: each fusion a small class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """Side by side in sorted order; a learned vector stands where a modality is absent."""

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in sorted(modalities)})
        self.out_dim = dim * len(modalities)

    def forward(self, pooled: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, D)}, {modality: bool (B,)} → (B, D × modalities)."""
        parts = [torch.where(present[m][:, None], pooled[m], self.absent[m]) for m in sorted(self.absent)]
        return torch.cat(parts, 1)


FUSIONS = {"concat": Concat}
