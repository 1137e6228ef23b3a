"""Recall of each class once what was done about rare ones is taken back out of a trained model's outputs.

Learning with weights w moves a class's logit by log w, and logit adjustment by -τ × log of its frequency: the
rows of `imbalance` call that its offset. Without it the model says about what a run without the method would.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mmpipe import metrics, scorecard
from mmpipe.scorecard import Numbers, Scores

Offsets = Mapping[str, float]
"""{label: nats}; empty where nothing was done that has such a form."""


def of_classes(scores: Scores, labels: Sequence[str], offsets: Offsets) -> list[Numbers]:
    """`recall_uncorrected` of each class, where the likeliest one is the answer."""
    inside = scorecard.scorable(scores)
    logits = scores.logits[scores.full][inside] - _array(labels, offsets)
    found = metrics.per_class(metrics.confusion(scores.target[inside], logits.argmax(axis=1), len(labels)))
    return [{"recall_uncorrected": float(recall)} for recall in found.recall]


def of_labels(scores: Scores, labels: Sequence[str], offsets: Offsets) -> list[Numbers]:
    """`recall_at_half` and `recall_at_half_uncorrected` of each label: of those likelier than not.

    At the thresholds that were fitted to the outputs as they are, the second would say nothing.
    """
    inside = scorecard.scorable(scores)
    target, logits = scores.target[inside], scores.logits[scores.full][inside]
    wanted = np.maximum(target.sum(axis=0), 1)
    columns = [
        ((some >= 0) * target).sum(axis=0) / wanted for some in (logits, logits - _array(labels, offsets))
    ]
    names = ("recall_at_half", "recall_at_half_uncorrected")
    return [dict(zip(names, map(float, pair), strict=True)) for pair in zip(*columns, strict=True)]


def beside(found: Numbers, more: Sequence[Numbers]) -> Numbers:
    """The metrics of a split with these figures in its table of classes, rounded as all are."""
    rows = zip(found["per_class"], more, strict=True)
    return found | {"per_class": [row | metrics.rounded(own) for row, own in rows]}


def _array(labels: Sequence[str], offsets: Offsets) -> metrics.Floats:
    return np.array([offsets[label] for label in labels])
