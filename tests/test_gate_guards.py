"""What a better model may not pay with: recall of a class, calibration, latency, size."""

from dataclasses import replace

import numpy as np
import pytest
from contenders import ASKED, fight, first, loose

from mmpipe.gate import Contender, HeldOut, judge


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
