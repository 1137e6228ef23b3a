"""Each modality's own answer → one answer: their mean, a weighted mean, or a fitted combination."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmpipe.model.fusions.base import Fusion


class Average(Fusion):
    """The mean over the modalities that are present; of classes' logits, a logarithmic opinion pool.

    Where none is present every number is 0: no class is likelier than another.
    """

    level = "model"
    trusted = False

    def forward(self, opinions: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, K)} → (B, K)."""
        return _mean(opinions, weight)


class Weighted(Fusion):
    """A mean by learned weights, which are positive and made to sum to 1 over the modalities present."""

    level = "model"
    trusted = False

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(len(modalities)))
        self.modalities = sorted(modalities)

    def forward(self, opinions: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, K)} → (B, K)."""
        learned = dict(zip(self.modalities, self.log_weight.exp(), strict=True))
        return _mean(opinions, {m: weight[m] * learned[m] for m in self.modalities})

    def facts(self) -> dict[str, float]:
        """{modality: its weight where all are present}."""
        shares = self.log_weight.detach().double().softmax(0).tolist()
        return {m: round(share, 6) for m, share in zip(self.modalities, shares, strict=True)}


class Stacking(Fusion):
    """A linear combination of all opinions (Wolpert 1992), an absent one replaced by a learned vector.

    `stacking.fit` fits it on predictions for samples that the modalities' models were not trained on. Until
    then it is the mean over all modalities.
    """

    level = "model"
    trained = False
    trusted = False

    def __init__(self, modalities: Sequence[str], outputs: int) -> None:
        """`outputs`: K, the width of an opinion."""
        super().__init__()
        self.modalities = sorted(modalities)
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(outputs)) for m in self.modalities})
        self.combine = nn.ParameterDict(
            {m: nn.Parameter(torch.eye(outputs) / len(self.modalities)) for m in self.modalities}
        )
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, opinions: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, K)} → (B, K)."""
        shown = {m: torch.where(weight[m][:, None] > 0, opinions[m], self.absent[m]) for m in self.modalities}
        return torch.stack([shown[m] @ self.combine[m].T for m in self.modalities]).sum(0) + self.bias


def _mean(opinions: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Tensor:
    names = sorted(opinions)
    parts = torch.stack([weight[m][:, None] * opinions[m] for m in names])
    total = torch.stack([weight[m] for m in names]).sum(0)
    return parts.sum(0) / torch.where(total > 0, total, 1)[:, None]
