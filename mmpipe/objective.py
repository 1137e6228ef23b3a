"""What a training step lowers: several losses at once, their weights fixed or learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.encoders import Encoded

CONTRASTIVE = "contrastive"
LOWEST = -1e9
"""Instead of -∞, which would make a row without any candidate NaN."""


@dataclass(frozen=True)
class Settings:
    """Meanings are those of `objective` in params.yaml."""

    contrastive: float = 0.0
    temperature: float = 0.1
    weights: str = "fixed"
    focal: float = 0.0
    logit_adjustment: float = 0.0


class Weights(nn.Module):
    """Σ w · loss over named losses; `learned`: Σ e^-s · loss + s / 2, s = log σ², which starts at -log w.

    Learned weights are those of Kendall et al. 2018, eq. 10, all losses being likelihoods of a softmax.
    """

    def __init__(self, fixed: Mapping[str, float], *, learned: bool) -> None:
        super().__init__()
        self.fixed = {name: weight for name, weight in fixed.items() if weight}
        start = (
            {name: -torch.tensor([weight]).log() for name, weight in self.fixed.items()} if learned else {}
        )
        self.log_variance = nn.ParameterDict({name: nn.Parameter(value) for name, value in start.items()})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """{name: scalar} → a scalar; `losses` has all names, and more of them do not count."""
        return reduce(add, [self._part(name, weight, losses[name]) for name, weight in self.fixed.items()])

    def now(self) -> dict[str, float]:
        """The learned weights e^-s; nothing where they are fixed."""
        return {name: float((-s.detach()).exp()) for name, s in self.log_variance.items()}

    def _part(self, name: str, weight: float, loss: Tensor) -> Tensor:
        if name in self.log_variance:
            s: Tensor = self.log_variance[name][0]
            return loss * (-s).exp() + s / 2
        return loss if weight == 1 else weight * loss


def build(modalities: list[str], *, joint: bool, auxiliary: float, settings: Settings) -> Weights:
    """The weights of the task's loss, of each modality's own (named by it) and of the contrastive one.

    Not `joint`: the modalities' models are trained by their own losses alone. Of a single modality its own
    loss is the task's over again and does not count, nor is there a pair to align.
    """
    several = len(modalities) > 1
    task = {"task": 1.0} | dict.fromkeys(modalities, auxiliary if several else 0.0)
    fixed = task if joint else dict.fromkeys(modalities, 1.0)
    fixed |= {CONTRASTIVE: settings.contrastive if several else 0.0}
    return Weights(fixed, learned=settings.weights == "uncertainty")


def contrastive(encoded: Mapping[str, Encoded], present: Mapping[str, Tensor], temperature: float) -> Tensor:
    """The mean over all pairs of modalities of `info_nce` of their pooled vectors: a scalar."""
    pairs = [
        info_nce(encoded[a].pooled, encoded[b].pooled, present[a] & present[b], temperature)
        for a, b in combinations(sorted(encoded), 2)
    ]
    return torch.stack(pairs).mean()


def info_nce(a: Tensor, b: Tensor, both: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; both ways as in Radford et al. 2021): a scalar.

    `a`, `b`: (B, D), compared by cosine / `temperature`. Each sample of `both`, bool (B,), is to find its own
    partner among those of all such samples; 0 where there are fewer than two.
    """
    similar = functional.normalize(a.float(), dim=1) @ functional.normalize(b.float(), dim=1).T / temperature
    own = torch.arange(len(a), device=a.device)
    ways = [
        functional.cross_entropy(logits.masked_fill(~both, LOWEST), own, reduction="none")
        for logits in (similar, similar.T)
    ]
    rows = torch.where(both, ways[0] + ways[1], 0)
    return rows.sum() / (2 * both.sum().clamp(min=1))
