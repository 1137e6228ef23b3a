"""Distances and chances, worked out by hand and held against SciPy's."""

import numpy as np
import pytest
from scipy import special, stats

from mmpipe import shift


def test_total_variation_is_the_share_that_would_have_to_be_another():
    assert shift.total_variation([1, 3], [3, 1]) == 0.5
    assert shift.total_variation([2, 2, 0], [1, 0, 3]) == 0.75
    assert shift.total_variation([5, 0], [0, 7]) == 1.0
    assert shift.total_variation([10, 30], [1, 3]) == 0.0


def test_shares_know_all_divisions_of_four_samples():
    """{a, a} and {b, b}: of the 6 ways to choose two of the four, 2 are as far apart."""
    found = shift.shares({"a": 2}, {"b": 2})
    assert found.distance == 1.0
    assert found.p == pytest.approx(1 / 3, abs=0.02)
    assert shift.shares({"a": 2}, {"b": 2}) == found
    assert shift.shares({"a": 3, "b": 1}, {"a": 3, "b": 1}) == shift.Shift(0.0, 1.0)


def test_shares_agree_with_fishers_exact_test():
    old, new = {"with": 40, "without": 10}, {"with": 12, "without": 13}
    wanted = stats.fisher_exact([list(old.values()), list(new.values())]).pvalue
    assert shift.shares(old, new).p == pytest.approx(wanted, rel=0.3)
    assert shift.shares(old, new).distance == pytest.approx(0.8 - 0.48)


def test_shares_in_blocks_of_resamples(monkeypatch):
    many = {f"label {n:03d}": n % 7 + 1 for n in range(300)}
    new = {**many, "other": 700}
    whole = shift.shares(many, new, resamples=200)
    monkeypatch.setattr(shift, "_AT_ONCE", 1000)
    assert shift.shares(many, new, resamples=200) == whole
    assert whole.p == 1 / 201


def test_numbers_by_the_largest_gap():
    """Below 2 lie two of four, and none: the gap is a half."""
    assert shift.numbers([1, 2, 3, 4], [3, 4, 5, 6]).distance == 0.5
    assert shift.numbers([1, 1, 1], [2, 2]).distance == 1.0
    assert shift.numbers([1, 2, 3, 4, 5] * 4, [1, 2, 3, 4, 5] * 3).p == 1.0


@pytest.mark.parametrize(
    ("old", "new", "moved"), [(60, 40, 0.0), (60, 40, 0.7), (500, 300, 0.15), (12, 9, 1.0)]
)
def test_numbers_agree_with_scipys_exact_test(old, new, moved):
    random = np.random.default_rng(old)
    one, other = random.normal(size=old), random.normal(size=new) + moved
    found, wanted = shift.numbers(one, other), stats.ks_2samp(one, other, method="exact")
    assert found.distance == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue, rel=0.25, abs=1e-4)


def test_kolmogorovs_distribution():
    for value in (0.01, 0.19, 0.2, 0.21, 0.5, 1.0, 2.0):
        assert shift.kolmogorov(value) == pytest.approx(special.kolmogorov(value), abs=1e-9)


def test_equal_values_make_it_cautious():
    """Counts of characters are often equal: of 400 draws of one distribution, few seem different."""
    random = np.random.default_rng(0)
    draws = [shift.numbers(random.integers(0, 4, 60), random.integers(0, 4, 40)).p for _ in range(400)]
    assert np.mean(np.array(draws) < 0.05) < 0.05


def test_holms_adjustment_by_hand():
    assert shift.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert shift.holm([0.5, 0.9]) == [1.0, 1.0]
    assert shift.holm([]) == []
