import math

import pytest
import torch
from sklearn.metrics import log_loss

from mmpipe.imbalance import Rule
from mmpipe.tasks.classify import TASK
from mmpipe.tasks.task import Output, Wishes

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
TARGET = torch.tensor([0, 2])
EVERYWHERE = {"text": torch.tensor([True, True]), "audio": torch.tensor([True, False])}


def test_the_loss_is_sklearns_cross_entropy():
    found = TASK.losses(Output(LOGITS, {}), TARGET, {}, Rule())
    wanted = log_loss(TARGET, LOGITS.double().softmax(1), labels=[0, 1, 2])
    assert float(found["task"]) == pytest.approx(wanted, rel=1e-6)
    assert found.keys() == {"task"}


def test_a_modalitys_own_loss_counts_only_samples_that_have_it():
    output = Output(LOGITS, {"text": torch.zeros(2, 3), "audio": torch.zeros(2, 3)})
    found = TASK.losses(output, TARGET, EVERYWHERE, Rule())
    assert float(found["text"]) == pytest.approx(math.log(3), rel=1e-6)
    assert float(found["audio"]) == pytest.approx(math.log(3) / 2, rel=1e-6)


def test_the_rule_counts_for_every_loss():
    output = Output(LOGITS, {"text": LOGITS})
    weights = torch.tensor([2.0, 0.0, 0.0])
    found = TASK.losses(output, TARGET, EVERYWHERE, Rule(weights=weights))
    first = -math.log(float(LOGITS[0].softmax(0)[0]))
    assert [float(loss) for loss in found.values()] == pytest.approx([first, first])


def test_the_rule_weighs_rare_classes_and_smooths():
    rule = TASK.rule(torch.tensor([0, 0, 0, 1]), Wishes("inverse", 0.1), outputs=2)
    assert rule.weights.tolist() == pytest.approx([2 / 3, 2.0])
    assert rule.label_smoothing == 0.1
    rule = TASK.rule(torch.tensor([0, 0, 0, 1]), Wishes(focal=2.0, logit_adjustment=1.0), outputs=2)
    assert (rule.weights, rule.focal) == (None, 2.0)
    assert rule.offset.tolist() == pytest.approx([math.log(3 / 4), math.log(1 / 4)])
