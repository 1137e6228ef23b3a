"""What is done about rare classes, worked out by hand."""

import math

import numpy as np
import pytest
import torch

from mmpipe import imbalance
from mmpipe.imbalance import Rule

LOGITS = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
TARGET = torch.tensor([0, 1])
COUNTS = torch.tensor([90, 9, 1])


def rule(counts=COUNTS, **given):
    nothing = {"class_weights": "none", "label_smoothing": 0.0, "focal": 0.0, "logit_adjustment": 0.0}
    return imbalance.rule(counts, **{**nothing, **given})


def test_without_anything_it_is_the_cross_entropy():
    assert rule() == Rule()
    assert Rule().each(LOGITS, TARGET).tolist() == pytest.approx([math.log(4 / 3), math.log(4)])


def test_focal_loss_by_hand():
    """Chances 3/4 and 1/4: the loss times (1/4)² and (3/4)²."""
    found = rule(focal=2.0).each(LOGITS, TARGET)
    assert found.tolist() == pytest.approx([math.log(4 / 3) / 16, math.log(4) * 9 / 16])


def test_focal_loss_has_a_gradient_where_the_chance_is_one():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Rule(focal=0.5).each(logits, torch.tensor([0])).sum().backward()
    assert logits.grad.isfinite().all()


def test_logit_adjustment_by_hand():
    """Of 3 and 1 samples: log 3 - log 1 between the logits is what the frequencies alone say."""
    counts = torch.tensor([3, 1])
    even = torch.zeros(2, 2)
    found = rule(counts, logit_adjustment=1.0).each(even, TARGET)
    assert found.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    found = rule(counts, logit_adjustment=2.0).each(even, TARGET)
    assert found.tolist() == pytest.approx([math.log(10 / 9), math.log(10)])


def test_class_weights_are_one_on_average_over_the_samples_and_rarer_weighs_more():
    for kind in ("inverse", "effective"):
        weights = imbalance.weights_of(COUNTS, kind=kind)
        assert float((weights * COUNTS).sum() / 100) == pytest.approx(1)
        assert weights[0] < weights[1] < weights[2]
    inverse = imbalance.weights_of(COUNTS, kind="inverse")
    np.testing.assert_allclose(inverse * COUNTS, [100 / 3] * 3, rtol=1e-6)
    assert imbalance.weights_of(COUNTS, kind="none") is None


def test_a_class_without_a_sample_breaks_nothing():
    counts = torch.tensor([4, 0])
    for given in ({"class_weights": "inverse"}, {"logit_adjustment": 1.0}):
        assert rule(counts, **given).each(LOGITS, TARGET).isfinite().all()


def describe(**given):
    nothing = {"class_weights": "none", "sampling": "natural", "logit_adjustment": 0.0}
    rows = imbalance.describe(COUNTS, ["a", "b", "c"], **{**nothing, **given})
    assert [(row["label"], row["train"], row["share"]) for row in rows] == [
        ("a", 90, 0.9),
        ("b", 9, 0.09),
        ("c", 1, 0.01),
    ]
    return [(row["counted_share"], row["offset"]) for row in rows]


def test_what_each_class_gets_by_it():
    assert describe() == [(0.9, 0), (0.09, 0), (0.01, 0)]
    logs = [0, math.log(10), math.log(90)]  # of how much rarer than the commonest
    third, shares = [1 / 3] * 3, (0.9, 0.09, 0.01)

    def wanted(shares, offsets):
        return [
            (pytest.approx(share, abs=1e-6), pytest.approx(offset, abs=1e-6))
            for share, offset in zip(shares, offsets, strict=True)
        ]

    assert describe(class_weights="inverse") == wanted(third, logs)
    assert describe(sampling="balanced") == wanted(third, logs)
    assert describe(logit_adjustment=1.0) == wanted(shares, logs)
    assert describe(logit_adjustment=0.5) == wanted(shares, [log / 2 for log in logs])
    weights = [0.01 / (1 - 0.99**n) for n in (90, 9, 1)]
    offsets = [math.log(weight / weights[0]) for weight in weights]
    assert [offset for _, offset in describe(class_weights="effective")] == pytest.approx(offsets, abs=1e-6)


def test_what_each_label_gets_by_it():
    """Of 4 samples 3 and 1 have it: its positives weigh 1/3 and 3 times as much; none counts as one."""
    target = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]).float()

    def found(kind):
        rows = imbalance.describe_labels(target, list("abc"), class_weights=kind)
        return [tuple(row[key] for key in ("train", "share", "counted_share", "offset")) for row in rows]

    assert imbalance.positive_weights(target).tolist() == pytest.approx([1 / 3, 3, 3])
    assert found("none") == [(3, 0.75, 0.75, 0), (1, 0.25, 0.25, 0), (0, 0, 0, 0)]
    logs = [pytest.approx(math.log(weight), abs=1e-6) for weight in (1 / 3, 3, 3)]
    assert found("inverse") == [(3, 0.75, 0.5, logs[0]), (1, 0.25, 0.5, logs[1]), (0, 0, 0, logs[2])]
