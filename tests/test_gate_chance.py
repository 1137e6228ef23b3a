"""What chance does to the verdict: orders, pairs at random, and how often equal models pass."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from contenders import ASKED, contender, held_out
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe import guards
from mmpipe.gate import judge


def made(seed, samples=60):
    """A champion, a challenger and a test set, all at random."""
    rng = np.random.default_rng(seed)
    target, group = rng.integers(0, 3, samples), rng.integers(0, samples // 2, samples)
    old, new = (
        contender(name, rng.random(samples) < share, target, sure=0.4 + 0.5 * rng.random())
        for name, share in (("old", 0.5), ("new", 0.5 + 0.4 * rng.random()))
    )
    return held_out(target, group), old, new


SOME = settings(max_examples=30, deadline=None)


@SOME
@given(st.integers(0, 1000), st.randoms(use_true_random=False), st.sampled_from(list(guards.LABELS.measures)))
def test_the_order_of_samples_does_not_matter(seed, random, metric):
    test, old, new = made(seed)
    order = list(range(60))
    random.shuffle(order)
    moved = replace(test, target=test.target[order], group=test.group[order])
    old_moved, new_moved = (replace(one, answers=one.answers[order]) for one in (old, new))
    asked = replace(ASKED, metric=metric, resamples=200)
    assert judge(moved, old_moved, new_moved, asked).as_json() == judge(test, old, new, asked).as_json()


@SOME
@given(st.integers(0, 1000), st.sampled_from(list(guards.LABELS.measures)))
def test_no_two_models_are_each_better_than_the_other(seed, metric):
    test, old, new = made(seed)
    asked = replace(ASKED, metric=metric, resamples=200)
    assert not (judge(test, old, new, asked).promote and judge(test, new, old, asked).promote)


@SOME
@given(st.integers(0, 1000))
def test_what_is_better_is_not_worse(seed):
    test, old, new = made(seed)
    better, not_worse = (
        judge(test, old, new, replace(ASKED, rule=rule, resamples=200)) for rule in ("better", "not_worse")
    )
    assert not_worse.promote or not better.promote


@pytest.fixture(scope="module")
def simulation(repository):
    """`benchmarks/gate.py`, which makes the pairs."""
    spec = importlib.util.spec_from_file_location("gate_benchmark", repository / "benchmarks/gate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kind", "count", "least", "most"),
    [("equal", 200, 3, 10), ("gain 10", 60, 40, 48), ("gain 10, one class lost", 60, 9, 17)],
)
def test_how_often_it_promotes(simulation, kind, count, least, most):
    """On 132 samples. 10 of 200 equal models is alpha; the bands hold what this numpy's streams give."""
    asked = replace(ASKED, resamples=200)
    made_pairs = list(simulation.pairs(kind, samples=132, count=count))
    right = [old.answers.argmax(axis=1) == test.target for test, old, _ in made_pairs]
    assert np.mean(right) == pytest.approx(0.62, abs=0.02)
    promoted = sum(judge(*pair, asked).promote for pair in made_pairs)
    assert least <= promoted <= most
