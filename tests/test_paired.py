"""Gains of one model on another, against numbers worked out by hand, scipy and enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmpipe import metrics, paired

MEASURES = [paired.ACCURACY, paired.MACRO_F1, paired.LIKELIHOOD, paired.calibration(5)]
SOME = settings(max_examples=25, deadline=None)


def models(seed, *, samples=40, classes=3, count=2):
    """Targets and the probabilities of models that are mostly right."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, samples)
    scores = rng.normal(size=(count, samples, classes)) + 1.5 * np.eye(classes)[target]
    return target, [metrics.softmax(one) for one in scores]


@pytest.mark.parametrize(("wins", "losses"), [(8, 0), (5, 0), (7, 3), (0, 0), (3, 9), (60, 40), (1500, 1400)])
def test_single_samples_are_mcnemars_exact_test(wins, losses):
    p = paired.sign_test([1] * wins + [-1] * losses + [0] * 5)
    oracle = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert p == pytest.approx(oracle, rel=1e-9)


def test_eight_to_none_is_one_in_256():
    assert paired.sign_test([1] * 8) == pytest.approx(1 / 256)
    assert paired.sign_test([8]) == 0.5  # one group of eight says no more than one sample


@SOME
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_sign_test_is_the_count_over_all_signs(gains):
    sums = [
        sum(s * abs(g) for s, g in zip(signs, gains, strict=True))
        for signs in product([1, -1], repeat=len(gains))
    ]
    assert paired.sign_test(gains) == pytest.approx(np.mean([s >= sum(gains) for s in sums]))


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert paired.holm([0.02]) == pytest.approx([0.02])


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_the_metrics(seed):
    target, [chances, _] = models(seed)
    given_labels, sure = chances.argmax(axis=1), chances.max(axis=1)
    matrix = metrics.confusion(target, given_labels, 3)
    wanted = [
        metrics.accuracy(target, given_labels),
        metrics.macro_f1(matrix),
        -metrics.nll(chances, target),
        -metrics.expected_calibration_error(sure, given_labels == target, 5),
    ]
    assert [measure.of(chances, target) for measure in MEASURES] == pytest.approx(wanted)


def test_no_answer_is_wrong_and_costs_no_calibration():
    chances = np.array([[0.0, 0.0], [0.9, 0.1]])
    assert paired.predicted(chances).tolist() == [-1, 0]
    target = np.array([0, 0])  # an argmax of zeros would say 0 and be right
    accuracy, f1, likelihood, error = (measure.of(chances, target) for measure in MEASURES)
    assert accuracy == 0.5
    assert f1 == pytest.approx(2 / 3)
    assert likelihood == pytest.approx((np.log(paired.FLOOR) + np.log(0.9)) / 2)
    assert error == pytest.approx(-0.1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_gains_nothing_on_itself(measure):
    target, [chances, _] = models(0)
    found = paired.gain(measure, (chances, chances), target, np.arange(40), resamples=200)
    assert (found.value, found.low, found.high, found.p_no_more, found.p_no_less) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_other_way_round_is_the_mirror_image(measure):
    target, (one, two) = models(1)
    there = paired.gain(measure, (one, two), target, np.arange(40) // 2, resamples=400)
    back = paired.gain(measure, (two, one), target, np.arange(40) // 2, resamples=400)
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.p_no_more, back.p_no_less) == pytest.approx((there.p_no_less, there.p_no_more))


@SOME
@given(st.randoms(use_true_random=False), st.sampled_from(MEASURES), st.integers(0, 5))
def test_the_order_of_samples_does_not_matter(random, measure, seed):
    target, pair = models(seed)
    groups = np.array([f"g{n % 23}" for n in range(40)])
    order = list(range(40))
    random.shuffle(order)
    straight = paired.gain(measure, tuple(pair), target, groups, resamples=100)
    shuffled = paired.gain(
        measure, tuple(one[order] for one in pair), target[order], groups[order], resamples=100
    )
    assert vars(shuffled) == pytest.approx(vars(straight), abs=1e-9)


def answers(right, target, classes=2):
    """Sure probabilities: the target's where right, else the next class's."""
    given_labels = np.where(right, target, (target + 1) % classes)
    return 0.8 * np.eye(classes)[given_labels] + 0.1


def test_swap_test_is_the_sign_test_for_accuracy():
    rng = np.random.default_rng(2)
    target, groups = np.zeros(60, int), np.arange(60) // 2
    before, after = rng.random(60) < 0.5, rng.random(60) < 0.55
    pair = answers(before, target), answers(after, target)
    exact = paired.sign_test((after.astype(int) - before).reshape(30, 2).sum(axis=1))
    assert 0.02 < exact < 0.5
    found = paired.gain(paired.ACCURACY, pair, target, groups, resamples=20_000)
    assert found.p_no_more >= exact - 0.01
    bootstrap = metrics.accuracy_gain(after, before, groups, resamples=20_000)[1]
    assert found.p_no_more == pytest.approx(max(exact, bootstrap), abs=0.01)


def test_few_groups_prove_nothing_however_large():
    """The bootstrap alone would be sure: every resample of four winning groups wins."""
    target, groups = np.zeros(80, int), np.arange(80) % 4
    pair = answers(np.zeros(80, bool), target), answers(np.ones(80, bool), target)
    found = paired.gain(paired.ACCURACY, pair, target, groups, resamples=5000)
    assert (found.value, found.low) == (1, 1)
    assert found.p_no_more == pytest.approx(1 / 16, abs=0.01)


def test_margin_moves_the_question():
    target = np.zeros(100, int)
    before, after = np.arange(100) < 50, np.arange(100) < 60  # ten points
    pair = answers(before, target), answers(after, target)

    def p(margin):
        return paired.gain(paired.ACCURACY, pair, target, np.arange(100), margin=margin, resamples=4000)

    assert p(0).p_no_more < 0.01 < 0.3 < p(0.1).p_no_more < 0.7 < p(0.15).p_no_more
    assert p(0).p_no_less == 1
    same = paired.gain(
        paired.ACCURACY, (pair[0], pair[0]), target, np.arange(100), margin=-0.02, resamples=100
    )
    assert same.p_no_more == pytest.approx(1 / 101)  # equals are surely no two points worse


def test_the_interval_leaves_out_alpha_on_each_side():
    target, pair = models(3, samples=200)
    narrow, wide = (
        paired.gain(paired.ACCURACY, tuple(pair), target, np.arange(200), alpha=alpha, resamples=2000)
        for alpha in (0.2, 0.01)
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_recalls_by_hand():
    target = np.array([0] * 8 + [1] * 3)
    before, after = np.ones(11, bool), np.array([False] * 8 + [False] * 3)
    pair = answers(before, target), answers(after, target)
    zero, one = paired.recalls(pair, target, np.arange(11))
    assert (zero.samples, zero.before, zero.after, zero.fall) == (8, 1, 0, 1)
    assert zero.p == pytest.approx(2 / 256)  # Holm: twice the smaller
    assert one.p == pytest.approx(1 / 8)  # three samples cannot say more
    copies, _ = paired.recalls(pair, target, np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 4]))
    assert copies.p == pytest.approx(1 / 4)
    assert [one.p for one in paired.recalls(pair[::-1], target, np.arange(11))] == [1, 1]
