"""What is done about rare classes: weights, focal loss, logit adjustment; and what each class gets by it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Rule:
    """How a sample's cross-entropy counts. `weights`: (K,) by its class. `offset`: (K,) added to the logits.

    `focal`: γ of the factor (1 - p) ** γ, p the chance of the sample's class (Lin et al. 2017, eq. 4).
    """

    weights: Tensor | None = None
    label_smoothing: float = 0.0
    focal: float = 0.0
    offset: Tensor | None = None

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K), (B,) → (B,): the cross-entropy of each sample."""
        if self.offset is not None:
            logits = logits + self.offset.to(logits)
        weights = None if self.weights is None else self.weights.to(logits)
        found = functional.cross_entropy(
            logits, target, weight=weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        if self.focal:
            chance = logits.softmax(1).gather(1, target[:, None])[:, 0]
            found = found * (1 - chance).clamp(min=1e-6) ** self.focal
        return found


def count(target: Tensor, classes: int) -> Tensor:
    """(N,) → int64 (K,): samples of each class."""
    return torch.bincount(target, minlength=classes)


def rule(
    counts: Tensor, *, class_weights: str, label_smoothing: float, focal: float, logit_adjustment: float
) -> Rule:
    """The rule for a train split. `counts`: int (K,), its samples of each class, on the device of the loss.

    `logit_adjustment`: τ; the model learns logits to which τ × log of its class's frequency is added, and
    predicts without (Menon et al. 2021, eq. 10): the classes count as if they were equally frequent.
    """
    weights = weights_of(counts.cpu(), kind=class_weights)
    return Rule(
        weights=None if weights is None else weights.to(counts.device),
        label_smoothing=label_smoothing,
        focal=focal,
        offset=logit_adjustment * log_frequencies(counts).float() if logit_adjustment else None,
    )


def weights_of(counts: Tensor, *, kind: str) -> Tensor | None:
    """Weights (K,) of the classes, 1 on average over the samples. `counts`: samples of each in train.

    `inverse`: 1 / n. `effective`: (1 - β) / (1 - βⁿ), β = 0.99 (Cui et al. 2019, section 4). `none`: None.
    """
    if kind == "none":
        return None
    n = counts.double().clamp(min=1)
    weights = 1 / n if kind == "inverse" else 0.01 / (1 - 0.99**n)
    return (weights * n.sum() / (weights * n).sum()).float()


def log_frequencies(counts: Tensor) -> Tensor:
    """(K,) → float64 (K,): log of each class's share of the samples; a class without one counts as one."""
    n = counts.double().clamp(min=1)
    return (n / n.sum()).log()


def describe(
    counts: Tensor, labels: list[str], *, class_weights: str, sampling: str, logit_adjustment: float
) -> list[dict[str, Any]]:
    """A row a class: its train samples, their share, and what the chosen method makes of it.

    `counted_share`: its share of the loss after weights or sampling. `offset`: nats that the method adds to
    its log-odds against the commonest class, beside a model that takes frequencies as they are: by Bayes the
    log of its weight, and a balanced order weighs by 1 / frequency. Of focal loss nothing is known.
    """
    n = counts.double().cpu()
    share = n / n.sum()
    weights = weights_of(counts.cpu(), kind=class_weights)
    counted = share if weights is None else share * weights.double()
    if sampling == "balanced":
        counted = torch.full_like(share, 1 / len(share))
    added = -logit_adjustment * log_frequencies(n)
    if sampling == "balanced" or weights is not None:
        added = added - log_frequencies(n) if weights is None else added + weights.double().log()
    return _rows(labels, n, share, counted / counted.sum(), added - added.min())


def describe_labels(target: Tensor, labels: list[str], *, class_weights: str) -> list[dict[str, Any]]:
    """The same of labels of which a sample has any number. `target`: (N, K) of 0 and 1.

    `counted_share`: the positives' share of a label's loss. `offset`: nats that weights add to its log-odds.
    """
    n = target.double().cpu().sum(0)
    share = n / len(target)
    weights = positive_weights(target.cpu()).double() if class_weights == "inverse" else torch.ones_like(n)
    counted = share * weights / (share * weights + 1 - share)
    return _rows(labels, n, share, counted, weights.log())


def positive_weights(target: Tensor) -> Tensor:
    """(N, K) → (K,): by which a label's positives weigh as much as its negatives."""
    positives = target.sum(0).clamp(min=1)
    return (len(target) - positives).clamp(min=1) / positives


def _rows(
    labels: list[str], counts: Tensor, share: Tensor, counted: Tensor, offset: Tensor
) -> list[dict[str, Any]]:
    names = ("share", "counted_share", "offset")
    table = [dict(zip(names, row, strict=True)) for row in torch.stack((share, counted, offset), 1).tolist()]
    return [
        {"label": label, "train": size, **{name: round(value, 6) for name, value in row.items()}}
        for label, size, row in zip(labels, counts.long().tolist(), table, strict=True)
    ]
