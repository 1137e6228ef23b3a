import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from mmpipe.tasks import classify
from mmpipe.tasks.classify import Output

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
TARGET = torch.tensor([0, 2])
EVERYWHERE = {"text": torch.tensor([True, True]), "audio": torch.tensor([True, False])}


def test_the_loss_is_sklearns_cross_entropy():
    found = classify.loss(Output(LOGITS, {}), TARGET, {})
    assert float(found) == pytest.approx(
        log_loss(TARGET, LOGITS.double().softmax(1), labels=[0, 1, 2]), rel=1e-6
    )


def test_the_auxiliary_loss_counts_only_samples_that_have_the_modality():
    plain = classify.loss(Output(LOGITS, {}), TARGET, {})
    output = Output(LOGITS, {"text": torch.zeros(2, 3), "audio": torch.zeros(2, 3)})
    found = classify.loss(output, TARGET, EVERYWHERE, auxiliary=0.5)
    assert float(found - plain) == pytest.approx(0.5 * math.log(3) * (1 + 0.5), rel=1e-5)


def test_one_modality_has_no_auxiliary_loss():
    output = Output(LOGITS, {"text": torch.zeros(2, 3)})
    assert classify.loss(output, TARGET, EVERYWHERE, auxiliary=9.0) == classify.loss(
        output, TARGET, EVERYWHERE
    )


def test_class_weights_are_one_on_average_over_the_samples_and_rarer_weighs_more():
    counts = torch.tensor([90, 9, 1])
    for kind in ("inverse", "effective"):
        weights = classify.class_weights(counts, kind=kind)
        assert float((weights * counts).sum() / 100) == pytest.approx(1)
        assert weights[0] < weights[1] < weights[2]
    inverse = classify.class_weights(counts, kind="inverse")
    np.testing.assert_allclose(inverse * counts, [100 / 3] * 3, rtol=1e-6)
    assert classify.class_weights(counts, kind="none") is None


def test_probabilities_sum_to_one_and_a_high_temperature_flattens_them():
    sharp, flat = classify.probabilities(LOGITS, 1.0), classify.probabilities(LOGITS, 10.0)
    torch.testing.assert_close(sharp.sum(1), torch.ones(2))
    assert (flat.max(1).values < sharp.max(1).values).all()
    assert torch.equal(flat.argmax(1), sharp.argmax(1))
