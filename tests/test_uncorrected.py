"""What a model says once the correction for rare classes is taken out, by hand and against a run without."""

import math

import numpy as np
import pytest
import torch

from mmpipe import imbalance, uncorrected
from mmpipe.scorecard import Scores
from mmpipe.tasks import classify, multilabel
from mmpipe.tasks.task import Asked, Decoding, Wishes


def scores(target, logits):
    names = np.array([f"s{n}" for n in range(len(target))])
    here = {"text": np.ones(len(target), bool)}
    return Scores("test", names.tolist(), np.array(target), names, here, {"text": np.array(logits)}, 0)


def test_recall_of_classes_by_hand():
    """Log 10 against class b: of its three samples one is more than that likelier, and a gets one back."""
    some = scores([0, 0, 1, 1, 1], [[0, 1.0], [3, 0], [0, 2.0], [0, 2.4], [4, 0]])
    found = uncorrected.of_classes(some, "ab", {"a": 0.0, "b": math.log(10)})
    assert found == [{"recall_uncorrected": 1.0}, {"recall_uncorrected": pytest.approx(1 / 3)}]
    as_it_is = uncorrected.of_classes(some, "ab", {"a": 0.0, "b": 0.0})
    assert [one["recall_uncorrected"] for one in as_it_is] == pytest.approx([1 / 2, 2 / 3])


def test_recall_of_labels_by_hand():
    some = scores([[1.0, 0], [1, 1], [1, 0]], [[0.5, 1.0], [1.5, -1], [-1.0, -1]])
    found = uncorrected.of_labels(some, "ab", {"a": 1.0, "b": -1.5})
    assert found == [
        {"recall_at_half": pytest.approx(2 / 3), "recall_at_half_uncorrected": pytest.approx(1 / 3)},
        {"recall_at_half": 0.0, "recall_at_half_uncorrected": 1.0},
    ]


def learned(target, x, wishes, task, outputs):
    """Logits of a linear model that was fitted by a task's loss."""
    rule = task.rule(target, wishes, outputs=outputs)
    weight = torch.zeros(x.shape[1] + 1, outputs, dtype=torch.double, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        solver.zero_grad()
        total = rule.each(x @ weight[:-1] + weight[-1], target).mean()
        total.backward()
        return total

    solver.step(loss)
    return (x @ weight[:-1] + weight[-1]).detach().numpy()


CLASSES = {
    "none": {},
    "inverse": {"class_weights": "inverse"},
    "effective": {"class_weights": "effective"},
    "balanced": {"sampling": "balanced"},
    "adjusted": {"logit_adjustment": 1.0},
    "half": {"logit_adjustment": 0.5},
}


@pytest.fixture(scope="module")
def samples():
    chance = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], (900, 90, 40))
    return target, torch.tensor(chance.normal(np.eye(3)[target] * 2, 1.0))


def test_without_its_correction_a_model_finds_what_one_that_never_had_it_finds(samples):
    """For every method, of a model that is right about what it sees: then Bayes' rule is exact."""
    target, x = samples
    labels, asked = list("abc"), {}
    for name, given in CLASSES.items():
        wishes = {"class_weights": "none", "logit_adjustment": 0.0} | given
        sampling = wishes.pop("sampling", "natural")
        counts = imbalance.count(torch.tensor(target), 3)
        rows = imbalance.describe(counts, labels, sampling=sampling, **wishes)
        asked = Asked(20, 5, {row["label"]: row["offset"] for row in rows})
        given = Wishes(**wishes).corrections(balanced=sampling == "balanced")
        logits = learned(torch.tensor(target), x, given, classify.TASK, 3)
        found = classify.TASK.measure(scores(target, logits), Decoding(labels), asked)["per_class"]
        if name == "none":
            plain = [row["recall"] for row in found]
            assert plain == [row["recall_uncorrected"] for row in found] and plain[2] < 0.8
            continue
        assert [row["recall_uncorrected"] for row in found] == pytest.approx(plain, abs=0.04)
        if name != "half":
            assert found[2]["recall"] > plain[2] + 0.06


def test_without_its_weights_a_label_is_given_as_by_a_model_that_never_had_them():
    """Two labels, whose log-odds are linear in what is seen."""
    chance, labels = np.random.default_rng(0), ["b", "c"]
    x = torch.tensor(chance.normal(0, 2, (8000, 2)))
    marks = torch.tensor(chance.random((8000, 2)) < torch.sigmoid(1.5 * x - 4).numpy()).double()
    found = {}
    for kind in ("none", "inverse"):
        rows = imbalance.describe_labels(marks, labels, class_weights=kind)
        offsets = {row["label"]: row["offset"] for row in rows}
        logits = learned(marks, x, Wishes(kind), multilabel.TASK, 2)
        decoding = Decoding(labels, 1.0, {"thresholds": [0.5, 0.5]})
        some = scores(marks.numpy().astype(np.float32), logits)
        found[kind] = multilabel.TASK.measure(some, decoding, Asked(20, 5, offsets))["per_class"]
    for without, row in zip(found["none"], found["inverse"], strict=True):
        assert without["recall_at_half"] == without["recall_at_half_uncorrected"] == without["recall"]
        assert row["recall_at_half"] > without["recall"] + 0.1
        assert row["recall_at_half_uncorrected"] == pytest.approx(without["recall"], abs=0.04)


def test_where_nothing_was_added_nothing_is_said(samples):
    target, x = samples
    found = classify.TASK.measure(scores(target, x.numpy()), Decoding(list("abc")), Asked(20, 5))
    assert set(found["per_class"][0]) == {"label", "precision", "recall", "f1", "support"}
