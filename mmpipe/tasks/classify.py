"""One label out of K: head, loss, decoding."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class Output(NamedTuple):
    """`logits`: (B, K). `by_modality`: {modality: (B, K)}, each modality's own opinion."""

    logits: Tensor
    by_modality: dict[str, Tensor]


class Classify(nn.Module):
    """A linear head on the fused vector, plus one linear head for each modality that is present.

    The sum of their logits lets a strong modality speak for itself, however the joint head weighs the others.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, fused_dim: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.classes = classes
        self.joint = nn.Linear(fused_dim, classes)
        self.single = nn.ModuleDict({m: nn.Linear(dim, classes) for m in sorted(modalities)})
        self.dropout = nn.Dropout(dropout)

    def forward(self, fused: Tensor, pooled: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Output:
        """`fused`: (B, F); `pooled`: {modality: (B, D)}; `weight`: {modality: (B,), 0 = absent … 1}."""
        single = {m: head(self.dropout(pooled[m])).float() for m, head in self.single.items()}
        logits = self.joint(self.dropout(fused)).float()
        for m, own in single.items():
            logits = logits + own * weight[m][:, None]
        return Output(logits, single)


def loss(
    output: Output,
    target: Tensor,
    present: Mapping[str, Tensor],
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    auxiliary: float = 0.0,
) -> Tensor:
    """Cross-entropy, plus `auxiliary` × each modality's own, over the samples that have it: a scalar."""

    def each(logits: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, target, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
        )

    total = each(output.logits).mean()
    if auxiliary and len(output.by_modality) > 1:
        for m, logits in output.by_modality.items():
            total = total + auxiliary * (each(logits) * present[m]).sum() / len(target)
    return total


def class_weights(counts: Tensor, *, kind: str) -> Tensor | None:
    """Weights (K,) of the classes, 1 on average over the samples. `counts`: samples of each in train.

    `inverse`: 1 / n. `effective`: (1 - β) / (1 - βⁿ), β = 0.99 (Cui et al. 2019, section 4). `none`: None.
    """
    if kind == "none":
        return None
    n = counts.double().clamp(min=1)
    weights = 1 / n if kind == "inverse" else 0.01 / (1 - 0.99**n)
    return (weights * n.sum() / (weights * n).sum()).float()


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """(B, K) → (B, K), rows sum to 1."""
    return (logits.float() / temperature).softmax(1)
