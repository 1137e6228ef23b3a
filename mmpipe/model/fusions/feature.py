"""Pooled vectors → one vector: side by side, through gates, or as a low-rank tensor product."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmpipe.model.encoders import Encoded
from mmpipe.model.fusions.base import Fusion


class Concat(Fusion):
    """Side by side in sorted order, each as far from a learned "absent" vector as its weight says."""

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.absent = absent_vectors(modalities, dim)
        self.out_dim = dim * len(modalities)

    def forward(self, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]) -> Tensor:
        """→ (B, D × modalities)."""
        parts = [
            torch.lerp(own, encoded[m].pooled, weight[m][:, None]) for m, own in sorted(self.absent.items())
        ]
        return torch.cat(parts, 1)


class Gated(Fusion):
    """Gated multimodal units: h = Σ z ⊙ tanh(W x), each gate z = σ(V [x₁ … xₘ]) (Arevalo et al. 2017, eq. 1).

    An absent modality adds nothing; the gates of the others see its learned "absent" vector.
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        names = sorted(modalities)
        self.absent = absent_vectors(names, dim)
        self.content = nn.ModuleDict({m: nn.Linear(dim, dim, bias=False) for m in names})
        self.gate = nn.ModuleDict({m: nn.Linear(dim * len(names), dim, bias=False) for m in names})
        self.out_dim = dim

    def forward(self, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]) -> Tensor:
        """→ (B, D)."""
        shown = {m: weight[m][:, None] > 0 for m in self.gate}
        seen = torch.cat([torch.where(shown[m], encoded[m].pooled, self.absent[m]) for m in self.gate], 1)
        parts = [
            gate(seen).sigmoid() * self.content[m](encoded[m].pooled).tanh() * weight[m][:, None]
            for m, gate in self.gate.items()
        ]
        return torch.stack(parts).sum(0)


class LowRank(Fusion):
    """h = Σᵣ aᵣ ∏ₘ Wₘᵣ [xₘ; 1] + b: a tensor product of all modalities whose weights have rank R.

    Liu et al. 2018, section 3.2. The weight of the constant 1 starts at 1 and not near 0, so that a product
    starts near 1 and each modality has a gradient.
    """

    def __init__(self, modalities: Sequence[str], dim: int, *, rank: int) -> None:
        super().__init__()
        self.absent = absent_vectors(modalities, dim)
        self.factors = nn.ParameterDict({m: nn.Parameter(_factor(rank, dim)) for m in sorted(modalities)})
        self.mix = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.out_dim = dim

    def forward(self, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]) -> Tensor:
        """→ (B, D)."""
        product = self.mix[None, :, None]
        for m, factor in sorted(self.factors.items()):
            x = torch.lerp(self.absent[m], encoded[m].pooled, weight[m][:, None])
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            product = product * torch.einsum("bi,rio->bro", x, factor)
        return product.sum(1) + self.bias


def absent_vectors(modalities: Sequence[str], dim: int) -> nn.ParameterDict:
    """{modality: a learned vector (D,) for where it is absent}, 0 at the start."""
    return nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in sorted(modalities)})


def _factor(rank: int, dim: int) -> Tensor:
    """(R, D + 1, D)."""
    weights = nn.init.xavier_normal_(torch.empty(rank * dim, dim)).view(rank, dim, dim)
    return torch.cat([weights, torch.ones(rank, 1, dim)], 1)
