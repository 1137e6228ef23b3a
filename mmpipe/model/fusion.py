"""How encoded modalities become one vector: each fusion a small class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """Side by side in sorted order, each as far from a learned "absent" vector as its weight says."""

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in sorted(modalities)})
        self.out_dim = dim * len(modalities)

    def forward(self, pooled: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, D)}, {modality: (B,), 0 = absent … 1} → (B, D × modalities)."""
        names = sorted(self.absent)
        return torch.cat([torch.lerp(self.absent[m], pooled[m], weight[m][:, None]) for m in names], 1)


FUSIONS = {"concat": Concat}
