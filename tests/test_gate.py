"""The verdict on hand-worked pairs of models: the rule, and what is said of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from contenders import ASKED, LABELS, contender, fight, first, held_out, loose

from mmpipe import guards
from mmpipe.errors import InvalidError
from mmpipe.gate import judge


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
