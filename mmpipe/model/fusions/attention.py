"""Sequences → one vector: every modality looks through the others by cross-modal attention."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmpipe.model.encoders import Encoded
from mmpipe.model.fusions.base import Fusion
from mmpipe.model.fusions.feature import absent_vectors


class CrossModal(Fusion):
    """One cross-modal transformer layer a modality, then means over time, side by side in sorted order.

    Tsai et al. 2019 (MulT) in a small form: one layer instead of several, all other modalities as one source
    instead of a stack of layers a pair, a mean instead of a second transformer. An absent modality is one
    learned token to the others, and that same vector where its own mean would stand. A modality's weight
    multiplies the attention that its tokens get.
    """

    sequences = True

    def __init__(self, widths: Mapping[str, int], dim: int, *, heads: int) -> None:
        """`widths`: {modality: C of its sequence}; `heads` divides `dim`."""
        super().__init__()
        names = sorted(widths)
        self.absent = absent_vectors(names, dim)
        self.kind = nn.ParameterDict({m: nn.Parameter(torch.empty(dim).normal_(std=0.02)) for m in names})
        self.project = nn.ModuleDict({m: nn.Linear(widths[m], dim) for m in names})
        self.layers = nn.ModuleDict({m: CrossLayer(dim, heads) for m in names})
        self.out_dim = dim * len(names)

    def forward(self, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]) -> Tensor:
        """→ (B, D × modalities)."""
        tokens = {m: self._tokens(m, encoded[m].sequence) for m in self.layers}
        scores = {m: _scores(encoded[m].mask, weight[m]) for m in self.layers}
        return torch.cat([self._look(m, tokens, scores, encoded[m].mask, weight[m]) for m in self.layers], 1)

    def _look(
        self,
        modality: str,
        tokens: Mapping[str, Tensor],
        scores: Mapping[str, Tensor],
        mask: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """(B, D): what a modality's own tokens found in the others, or in itself if it is the only one."""
        others = [m for m in self.layers if m != modality] or [modality]
        source, score = (torch.cat([part[m] for m in others], 1) for part in (tokens, scores))
        seen = self.layers[modality](tokens[modality][:, 1:], source, score)
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        mean = (seen * share[:, :, None]).sum(1)
        return torch.lerp(self.absent[modality], mean, weight[:, None] * mask.any(1, keepdim=True))

    def _tokens(self, modality: str, sequence: Tensor) -> Tensor:
        """(B, T, C) → (B, 1 + T, D): the token that stands for its absence goes first."""
        x = self.project[modality](sequence).float() + self.kind[modality]
        x = x + positions(x.shape[1], x.shape[2], x.device)
        return torch.cat([self.absent[modality].expand(x.shape[0], 1, -1), x], 1)


class CrossLayer(nn.Module):
    """Queries from one sequence, keys and values from another; a feed-forward net. Pre-norm, residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.source_norm, self.last_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.forth = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, source: Tensor, score: Tensor) -> Tensor:
        """(B, T, D), (B, S, D), added to the attention's logits (B, S) → (B, T, D)."""
        source = self.source_norm(source)
        query, key, value = (
            layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.query, self.norm(x)), (self.key, source), (self.value, source))
        )
        logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        attention = (logits.float() + score[:, None, None]).softmax(3)
        found: Tensor = self.out((attention.to(value.dtype) @ value).transpose(1, 2).flatten(2))
        x = x + found.float()
        more: Tensor = self.forth(self.last_norm(x))
        return x + more.float()


def positions(steps: int, dim: int, device: torch.device) -> Tensor:
    """(T, D): sines, then cosines, of 10,000 ** -(2i / D) a step (Vaswani et al. 2017, section 3.5)."""
    rate = torch.arange(0, dim, 2, device=device).div(-dim / math.log(10_000)).exp()
    angle = torch.arange(steps, device=device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :dim]


def _scores(mask: Tensor, weight: Tensor) -> Tensor:
    """(B, T), (B,) → (B, 1 + T): log of what each token counts; without any, the absent one does."""
    present = (weight > 0) & mask.any(1)  # a text of which nothing is known has no step at all
    logs = torch.where(present, weight, 1).log()[:, None]
    own = torch.where(present[:, None] & mask.bool(), logs, -math.inf)
    return torch.cat([torch.where(present, -math.inf, 0.0)[:, None], own], 1)
