"""The verdict on hand-worked pairs of models, one rule or guard at a time; and how often chance fools it."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe import guards
from mmpipe.errors import InvalidError
from mmpipe.gate import Contender, HeldOut, Thresholds, judge

LABELS = ["ant", "bee", "cat"]
ASKED = Thresholds(resamples=500)


def held_out(target, groups=None):
    wanted = np.asarray(target, int)
    names = np.arange(len(wanted)) if groups is None else np.asarray(groups)
    return HeldOut(wanted, names.astype(str), LABELS, "abc")


def contender(name, right, target, *, sure=0.8, **other):
    """A model that is right on some samples, else says the next label; `sure` of each answer."""
    wanted = np.asarray(target, int)
    given_labels = np.where(right, wanted, (wanted + 1) % 3)
    rest = (1 - sure) / 2
    chances = np.full((len(target), 3), rest) + (sure - rest) * np.eye(3)[given_labels]
    facts = {"known": LABELS, "latency_ms": 2.0, "size_bytes": 1000, "bundle_sha256": name, **other}
    return Contender(name, chances, **facts)


def first(count, of):
    """`count` samples right, the first ones."""
    return np.arange(of) < count


def fight(before, after, *, asked=ASKED, target=None, groups=None, champion=None, challenger=None):
    """The verdict on a challenger that is right on `after` where the champion is right on `before`."""
    wanted = np.zeros(len(before), int) if target is None else np.asarray(target)
    return judge(
        held_out(wanted, groups),
        contender("old", before, wanted, **(champion or {})),
        contender("new", after, wanted, **(challenger or {})),
        asked,
    )


def loose(**other):
    """Thresholds of which only the named ones can refuse."""
    free = {"max_recall_drop": 1.0, "max_ece_rise": 1.0, "max_latency_ratio": None, "max_size_ratio": None}
    return replace(ASKED, **{"rule": "not_worse", "alpha": 1e-9, **free, **other})


def test_the_first_model_is_promoted_and_the_reason_said():
    target = [0, 1, 2]
    verdict = judge(held_out(target), None, contender("new", first(1, 3), target), ASKED)
    assert verdict.promote
    assert verdict.reasons == ["there is no champion: new is the first, so it is promoted as it is."]
    found = verdict.as_json()
    assert (found["verdict"], found["champion"]) == ("promote", None)
    assert found["figures"]["challenger"]["accuracy"] == pytest.approx(1 / 3, abs=1e-6)


def test_no_sample_is_an_error():
    with pytest.raises(InvalidError, match="split-too-few"):
        judge(held_out([]), None, contender("new", first(0, 0), []), ASKED)


def test_a_clear_gain_is_promoted():
    verdict = fight(first(50, 100), first(70, 100))
    assert verdict.promote and verdict.figures["refused_by"] == []
    assert verdict.reasons[0].startswith(
        "accuracy is better: 0.700 against 0.500, a gain of +0.200 (90% interval +0.1"
    )
    assert "right alone: challenger 20, champion 0 (McNemar's exact p = 9.5e-07)" in verdict.reasons[0]
    assert verdict.figures["mcnemar"] == {"only_challenger": 20, "only_champion": 0, "p": 1e-6}
    assert len(verdict.reasons) == 5


@pytest.mark.parametrize("metric", guards.LABELS.measures)
@pytest.mark.parametrize("rule", ["better", "not_worse"])
def test_equal_models_pass_only_where_not_worse_is_asked(metric, rule):
    right = first(60, 100)
    verdict = fight(right, right, asked=replace(ASKED, metric=metric, rule=rule))
    assert verdict.promote == (rule == "not_worse")
    assert verdict.figures["gain"]["value"] == 0
    word = "not shown to be better" if rule == "better" else "not shown to be worse"
    assert f"{metric} is {word}: " in verdict.reasons[0]


@pytest.mark.parametrize("metric", guards.LABELS.measures)
def test_a_clear_loss_is_refused_by_either_rule(metric):
    for rule in ("better", "not_worse"):
        verdict = fight(first(80, 100), first(40, 100), asked=loose(metric=metric, rule=rule, alpha=0.05))
        assert verdict.figures["refused_by"] == ["rule"]
    assert verdict.reasons[0].startswith(f"{metric} is worse: ")


def test_five_samples_can_promote_and_four_cannot():
    """1/32 is below 0.05, 1/16 is not; the bootstrap alone would promote both."""
    assert fight(first(0, 5), first(5, 5)).promote
    assert not fight(first(0, 4), first(4, 4)).promote


def test_copies_of_one_sample_do_not_count_as_many():
    groups = np.arange(100)
    groups[50:70] = 50
    assert fight(first(50, 100), first(70, 100)).promote
    assert not fight(first(50, 100), first(70, 100), groups=groups).promote


def test_a_margin_must_be_gained():
    before, after = first(50, 200), first(70, 200)  # ten points
    assert fight(before, after, asked=replace(ASKED, min_gain=0.04)).promote
    verdict = fight(before, after, asked=replace(ASKED, min_gain=0.09))
    assert not verdict.promote
    assert verdict.reasons[0].startswith("accuracy is not shown to gain more than +0.09: 0.350")


def test_a_negative_margin_lets_equals_pass():
    right = first(50, 200)
    assert fight(right, right, asked=replace(ASKED, min_gain=-0.02)).promote
    assert not fight(first(80, 200), first(60, 200), asked=replace(ASKED, min_gain=-0.02)).promote


def test_a_class_that_fell_refuses_a_better_model():
    target = [0] * 80 + [1] * 20
    before = np.concatenate([first(20, 80), first(18, 20)])
    after = np.concatenate([first(60, 80), first(4, 20)])
    verdict = fight(before, after, target=target)
    assert verdict.figures["gain"]["p"] <= 0.05
    assert verdict.figures["refused_by"] == ["recall"]
    assert verdict.reasons[0] == (
        "recall fell by more than the 0.1 allowed in 1 of 2 classes, which chance does not explain: "
        "bee from 0.900 to 0.200 (20 samples, p = 0.00012)."
    )
    assert fight(before, after, target=target, asked=replace(ASKED, max_recall_drop=0.8)).promote


def test_a_class_of_three_samples_has_no_veto():
    target = [0] * 80 + [1] * 3
    before = np.concatenate([first(20, 80), first(3, 3)])
    after = np.concatenate([first(60, 80), first(0, 3)])
    verdict = fight(before, after, target=target)
    assert verdict.promote
    assert (
        "in 1 of 2 classes, which chance explains: bee from 1.000 to 0.000 (3 samples, p = 0.25)."
        in (verdict.reasons[1])
    )


def test_recall_is_corrected_for_the_number_of_classes():
    """Six lost of six is 1/64: beyond 0.05 alone and among three classes, not among more than 3."""
    before = np.concatenate([first(6, 6), first(5, 10), first(5, 10)])
    after = np.concatenate([first(0, 6), first(5, 10), first(5, 10)])
    target = [0] * 6 + [1] * 10 + [2] * 10
    assert fight(before, after, target=target, asked=loose(max_recall_drop=0.1)).figures["refused_by"] == [
        "recall"
    ]
    six_of_six = fight(before, after, target=target, asked=loose(max_recall_drop=0.1, guard_alpha=0.04))
    assert six_of_six.promote
    assert six_of_six.figures["recall"][0]["p"] == pytest.approx(3 / 64, abs=1e-6)


def test_many_classes_that_fell_are_counted_and_three_named():
    labels = [f"c{n}" for n in range(6)]
    target = np.arange(120) % 6
    test = HeldOut(target, np.arange(120).astype(str), labels, "abc")
    before, after = (
        Contender(name, 0.9 * np.eye(6)[given_labels] + 0.01, labels, 1.0, 1, name)
        for name, given_labels in (("old", target), ("new", (target + 1) % 6))
    )
    verdict = judge(test, before, after, ASKED)
    [words] = [reason for reason in verdict.reasons if reason.startswith("recall")]
    assert "in 6 of 6 classes" in words and words.endswith("; and 3 more.")
    assert len(verdict.figures["recall"]) == 6


def test_worse_calibration_refuses():
    right = np.arange(200) % 2 == 0
    honest, boastful = {"sure": 0.5}, {"sure": 0.9}
    verdict = fight(
        right, right, champion=honest, challenger=boastful, asked=loose(max_ece_rise=0.05, guard_alpha=0.05)
    )
    assert verdict.figures["refused_by"] == ["calibration"]
    assert verdict.reasons[0] == (
        "calibration error went from 0.000 to 0.400; a rise of 0.05 is allowed, "
        "and chance does not explain it (p = 0.002)."
    )
    assert fight(right, right, champion=honest, challenger=boastful, asked=loose(max_ece_rise=0.41)).promote
    assert fight(right, right, champion=boastful, challenger=honest, asked=loose(max_ece_rise=0.0)).promote


def test_worse_calibration_by_chance_does_not():
    right = np.array([True, False, True])
    verdict = fight(
        right, right, champion={"sure": 2 / 3}, challenger={"sure": 0.9}, asked=loose(max_ece_rise=0.05)
    )
    assert verdict.promote
    assert any("a rise of 0.05 is allowed, and chance explains it" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("guard", "fact", "limit", "words"),
    [
        (
            "latency",
            "latency_ms",
            1.5,
            "a sample takes 3.02 ms against 2.00 ms, 1.51 times as much; 1.5 times",
        ),
        ("size", "size_bytes", 2.0, "the bundle has 2,010 bytes against 1,000, 2.01 times as much; 2 times"),
    ],
)
def test_a_heavier_model_is_refused(guard, fact, limit, words):
    before, after, base = first(50, 100), first(70, 100), {"latency_ms": 2.0, "size_bytes": 1000}[fact]
    at_most = fight(before, after, challenger={fact: int(base * limit) or limit})
    assert at_most.promote and at_most.figures[f"{guard}_ratio"] == limit
    more = fight(before, after, challenger={fact: base * limit + base // 100 + 0.02 * (fact[0] == "l")})
    assert more.figures["refused_by"] == [guard]
    assert words in more.reasons[0].replace("2,010.0", "2,010")
    free = replace(ASKED, **{f"max_{guard}_ratio": None})
    assert fight(before, after, challenger={fact: base * 100}, asked=free).promote


def test_a_label_that_the_champion_lacks_counts_as_wrong_for_it():
    target = np.array([0] * 40 + [2] * 20)
    right = np.concatenate([first(30, 40), first(15, 20)])
    old, new = contender("old", right, target), contender("new", right, target)
    chances = old.answers.copy()
    chances[:, 2] = 0  # it never heard of cats
    verdict = judge(
        held_out(target),
        replace(old, answers=chances / chances.sum(axis=1, keepdims=True), known=LABELS[:2]),
        new,
        ASKED,
    )
    assert verdict.promote
    assert verdict.figures["champion"]["accuracy"] == 0.5
    assert "old lacks the label cat: the 20 test samples with it count as wrong for it." in verdict.reasons


def test_a_label_that_the_challenger_lacks_shows_in_its_recall():
    target = np.array([0] * 40 + [1] * 20)
    old = contender("old", np.ones(60, bool), target)
    new = contender("new", np.arange(60) < 40, target, known=["ant", "cat"])
    verdict = judge(held_out(target), old, new, ASKED)
    assert verdict.figures["refused_by"] == ["rule", "recall"]
    assert "new lacks the label bee: the 20 test samples with it count as wrong for it." in verdict.reasons


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("metric", guards.LABELS.measures)
def test_no_answer_never_wins(bad, metric):
    """NaN compares false with everything, so that no resample would count against it."""
    target = np.zeros(50, int)
    old, new = contender("old", first(10, 50), target), contender("new", first(10, 50), target)
    verdict = judge(
        held_out(target),
        old,
        replace(new, answers=np.full((50, 3), bad)),
        replace(ASKED, metric=metric),
    )
    assert "rule" in verdict.figures["refused_by"]
    assert verdict.figures["challenger"]["accuracy"] == 0
    assert "new has no answer to 50 test samples, which count as wrong for it." in verdict.reasons
    json.dumps(verdict.as_json(), allow_nan=False)


@pytest.mark.parametrize(("judged_on", "said"), [(None, "unknown"), ("abc", "same"), ("xyz", "changed")])
def test_whether_the_test_set_changed_is_said(judged_on, said):
    verdict = fight(first(5, 10), first(6, 10), champion={"judged_on": judged_on})
    assert verdict.figures["test_set"] == said
    assert verdict.figures["test_sha256"] == "abc"
    warned = [reason for reason in verdict.reasons if "was judged on another test set" in reason]
    assert len(warned) == (said == "changed")


def test_the_same_bundle_is_named():
    right = first(5, 10)
    verdict = fight(right, right, challenger={"bundle_sha256": "old"})
    assert verdict.reasons[-1] == "champion and challenger are the same bundle."


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
