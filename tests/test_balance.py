"""What the report says of rare classes."""

import pytest

from mmpipe import balance

TRAINING = [
    {"label": name, "train": n, "share": n / 20, "counted_share": n / 20, "offset": 0.0}
    for name, n in (("a", 12), ("b", 1), ("c", 4), ("d", 2), ("e", 1))
]
TESTED = [
    {"label": name, "recall": recall, "support": n}
    for name, recall, n in (("a", 0.9, 10), ("b", 0.1, 1), ("c", 0.7, 4), ("d", 0.6, 2), ("e", 0.0, 0))
]


def test_the_rarest_comes_first_and_untested_classes_have_no_say():
    found = balance.describe(TRAINING, TESTED, {})
    assert [row["label"] for row in found.rows] == ["b", "e", "d", "c", "a"]
    assert (found.most, found.least) == (12, 1)
    assert found.halves == {"recall": (pytest.approx((0.1 + 0.6) / 2), pytest.approx((0.7 + 0.9) / 2))}
    assert found.rows[2] == {**TRAINING[3], "recall": 0.6, "test": 2}


def test_every_method_is_said_and_only_if_it_was_chosen():
    off = {
        "train": {"class_weights": "none", "sampling": "natural", "lr": 1.0},
        "objective": {"focal": 0.0, "logit_adjustment": 0.0},
    }
    assert balance.describe(TRAINING, TESTED, off).methods == []
    on = {
        "train": {"class_weights": "inverse", "sampling": "balanced"},
        "objective": {"focal": 2.0, "logit_adjustment": 1.5},
    }
    words = " ".join(balance.describe(TRAINING, TESTED, on).methods)
    for part in ("class weights (inverse)", "balanced sampling", "τ = 1.5", "γ = 2.0"):
        assert part in words


def test_a_training_that_says_nothing_of_classes_has_no_section():
    assert balance.describe([], TESTED, {}) is None
    one = balance.describe(TRAINING[:1], TESTED, {})
    assert one.halves == {}


def test_recall_without_the_correction_stands_beside_it_where_it_was_measured():
    tested = [{**row, "recall_uncorrected": row["recall"] / 2} for row in TESTED]
    found = balance.describe(TRAINING, tested, {"objective": {"focal": 2.0}})
    assert list(found.columns) == ["recall", "recall_uncorrected"] and found.focal
    assert found.rows[0]["recall_uncorrected"] == 0.05
    rare, common = found.halves["recall_uncorrected"]
    assert (2 * rare, 2 * common) == pytest.approx(found.halves["recall"])


def test_of_labels_only_their_own_method_is_said():
    params = {"train": {"class_weights": "inverse", "sampling": "balanced"}}
    found = balance.describe(TRAINING, TESTED, params, kind="labels")
    assert found.word == "labels" and [words[:23] for words in found.methods] == ["class weights (inverse)"]
    assert "positives" in found.methods[0]
