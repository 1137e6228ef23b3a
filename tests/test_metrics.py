"""Metrics against numbers worked out by hand, scikit-learn, and the textbook's formulas."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from mmpipe import metrics

TARGETS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 2, 2])


def test_by_hand():
    matrix = metrics.confusion(TARGETS, PREDICTIONS, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    table = metrics.per_class(matrix)
    assert table.precision == pytest.approx([1, 1 / 2, 1 / 2])
    assert table.recall == pytest.approx([2 / 3, 1 / 2, 1])
    assert table.f1 == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert table.support.tolist() == [3, 2, 1]
    assert metrics.accuracy(TARGETS, PREDICTIONS) == pytest.approx(4 / 6)
    assert metrics.macro_f1(matrix) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_agrees(seed):
    generator = np.random.default_rng(seed)
    targets, predictions = generator.integers(0, 7, (2, 40))  # of 9 classes: two never occur
    matrix = metrics.confusion(targets, predictions, 9)
    assert metrics.macro_f1(matrix) == pytest.approx(f1_score(targets, predictions, average="macro"))
    oracle = precision_recall_fscore_support(targets, predictions, labels=range(9), zero_division=0)
    table = metrics.per_class(matrix)
    for ours, theirs in zip((table.precision, table.recall, table.f1, table.support), oracle, strict=True):
        assert ours == pytest.approx(theirs)


def test_calibration_error_by_hand():
    confidence, correct = [0.15, 0.25, 0.95, 0.85, 1.0], [0, 1, 1, 0, 1]
    found = metrics.reliability(confidence, correct, 2)
    assert found.count.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.2, 2.8 / 3])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    by_hand = 2 / 5 * 0.3 + 3 / 5 * (2.8 / 3 - 2 / 3)
    assert metrics.expected_calibration_error(confidence, correct, 2) == pytest.approx(by_hand)


def test_calibration_error_is_the_plain_sum_over_bins():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.05, 1, 500)
    correct = generator.random(500) < confidence**2
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(confidence, correct, 15) == pytest.approx(total)


def test_softmax_and_likelihood():
    probabilities = metrics.softmax([[1000.0, 1000.0], [0.0, np.log(3)]])
    assert probabilities == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert metrics.nll(probabilities, [0, 1]) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert metrics.softmax([[0.0, 2 * np.log(3)]], 2.0) == pytest.approx(np.array([[0.25, 0.75]]))


def both(groups: np.ndarray, targets: np.ndarray, predictions: np.ndarray):
    return metrics.accuracy_and_macro_f1(targets, predictions, groups, classes=3, resamples=2000)


def test_intervals_match_the_direct_resampling():
    """Vectorised sums of groups against drawing rows one resample at a time."""
    generator = np.random.default_rng(1)
    targets, predictions = generator.integers(0, 3, (2, 60))
    groups = np.repeat(np.arange(20), 3)
    accuracy, f1 = both(groups, targets, predictions)
    rows = [
        np.concatenate([np.arange(60)[groups == g] for g in generator.integers(0, 20, 20)])
        for _ in range(2000)
    ]
    direct_accuracy = [np.mean(targets[r] == predictions[r]) for r in rows]
    direct_f1 = [metrics.macro_f1(metrics.confusion(targets[r], predictions[r], 3)) for r in rows]
    assert (accuracy.low, accuracy.high) == pytest.approx(
        np.percentile(direct_accuracy, [2.5, 97.5]), abs=0.02
    )
    assert (f1.low, f1.high) == pytest.approx(np.percentile(direct_f1, [2.5, 97.5]), abs=0.02)
    assert f1.value == pytest.approx(f1_score(targets, predictions, average="macro"))


def test_interval_covers_the_truth():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        right = generator.random(80) < 0.7
        found, _ = metrics.accuracy_and_macro_f1(
            np.zeros(80, int), np.where(right, 0, 1), np.arange(80), classes=2, resamples=200
        )
        covered += found.low <= 0.7 <= found.high
    assert covered >= 180


def test_groups_of_copies_widen_the_interval():
    targets = np.random.default_rng(3).integers(0, 3, 50).repeat(4)
    predictions = np.random.default_rng(4).integers(0, 3, 50).repeat(4)
    alone, _ = both(np.arange(200), targets, predictions)
    grouped, _ = both(np.arange(50).repeat(4), targets, predictions)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_intervals_do_not_depend_on_the_block(monkeypatch):
    targets, predictions = np.random.default_rng(5).integers(0, 3, (2, 60))
    whole = both(np.arange(60), targets, predictions)
    monkeypatch.setattr(metrics, "BLOCK", 700)
    assert both(np.arange(60), targets, predictions) == whole


def test_gain_is_paired():
    before = np.random.default_rng(6).random(100) < 0.5
    after = before.copy()
    after[np.flatnonzero(~before)[:8]] = True
    gain, p = metrics.accuracy_gain(after, before, np.arange(100), resamples=1000)
    assert gain.value == pytest.approx(0.08)
    assert 0.02 < gain.low < 0.08 < gain.high < 0.15
    assert p == pytest.approx(1 / 1001, abs=2e-3)
    none, p = metrics.accuracy_gain(before, before, np.arange(100), resamples=1000)
    assert (none.low, none.value, none.high, p) == (0, 0, 0, 1)
