"""Splits: no group in two, every sample tested once over the folds, near the wanted sizes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe import groups, split
from mmpipe.errors import InvalidError

FRACTIONS = {"test_fraction": 0.2, "val_fraction": 0.1}


@st.composite
def samples(draw):
    """Many groups of 1 to 4 samples with mostly one class, 2 to 4 classes."""
    classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, 4), min_size=60, max_size=120))
    pairs = [(f"g{number}", number % classes) for number, size in enumerate(sizes) for _ in range(size)]
    order = draw(st.randoms(use_true_random=False))
    named = [(f"s{index}", f"c{label}", group) for index, (group, label) in enumerate(pairs)]
    order.shuffle(named)
    ids, targets, names = zip(*named, strict=True)
    return list(ids), list(targets), list(names)


@settings(max_examples=25, deadline=None)
@given(samples(), st.integers(0, 5))
def test_no_group_crosses_and_sizes_are_near(data, seed):
    ids, targets, names = data
    splits = split.assign(*data, **FRACTIONS, fold=1, seed=seed)
    assert all(len(found) == 1 for found in by(names, splits).values())
    for name, share in (("test", 0.2), ("val", 0.1), ("train", 0.7)):
        assert abs(splits.count(name) / len(ids) - share) < 0.05
        for target in set(targets):
            members = [s for s, t in zip(splits, targets, strict=True) if t == target]
            assert abs(members.count(name) / len(members) - share) < 0.12


def by(keys, values):
    found = {}
    for key, value in zip(keys, values, strict=True):
        found.setdefault(key, set()).add(value)
    return found


@settings(max_examples=15, deadline=None)
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(data, order):
    shuffled = list(zip(*data, strict=True))
    order.shuffle(shuffled)
    again = [list(column) for column in zip(*shuffled, strict=True)]
    first = dict(zip(data[0], split.assign(*data, **FRACTIONS, fold=0, seed=3), strict=True))
    assert first == dict(zip(again[0], split.assign(*again, **FRACTIONS, fold=0, seed=3), strict=True))
    assert first != dict(zip(data[0], split.assign(*data, **FRACTIONS, fold=0, seed=4), strict=True))


@settings(max_examples=15, deadline=None)
@given(samples())
def test_folds_partition_the_samples(data):
    folds = [split.assign(*data, **FRACTIONS, fold=fold, seed=0) for fold in range(5)]
    for found in zip(*folds, strict=True):
        assert found.count("test") == 1


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([], "no samples"),
        (["a"] * 20, "one class, 'a'"),
        (["a"] * 20 + ["b"], "no sample of class 'b' .1 samples in 1 groups"),
        (["cat"] * 20 + ["Cat"], "did you mean 'cat'"),
        (["a", "b"], "no sample"),
    ],
)
def test_too_few(targets, words):
    ids = [f"s{number:02}" for number in range(len(targets))]
    with pytest.raises(InvalidError, match=words) as raised:
        for fold in range(5):
            split.assign(ids, targets, ids, **FRACTIONS, fold=fold, seed=0)
    assert raised.value.code == "split-too-few"


def test_one_large_group_is_named():
    ids = [f"s{number:02}" for number in range(20)]
    with pytest.raises(
        InvalidError, match=r"no sample is left for t.* 20 samples in 1 groups, the largest of 20"
    ):
        for fold in range(5):
            split.assign(ids, ["a", "b"] * 10, ["s00"] * 20, **FRACTIONS, fold=fold, seed=0)


def test_fold_out_of_range():
    ids = ["a", "b", "c", "d"]
    with pytest.raises(InvalidError, match=r"split.fold is 5.* folds 0 to 4"):
        split.assign(ids, list("xyxy"), ids, **FRACTIONS, fold=5, seed=0)


def test_declared_splits_are_kept_and_val_dealt_out_of_train():
    ids = [f"s{number:02}" for number in range(40)]
    targets = ["a", "b"] * 20
    declared = ["test" if number < 10 else "train" for number in range(40)]
    found = split.keep_declared(ids, targets, ids, declared, val_fraction=0.1, seed=0)
    assert found[:10] == ["test"] * 10 and found.count("val") == 4
    with pytest.raises(InvalidError, match=r"split-leak 1 .*s09 \(test\) and s10 \(train\)"):
        split.keep_declared(ids, targets, [*ids[:10], "s09", *ids[11:]], declared, val_fraction=0.1, seed=0)
    with pytest.raises(InvalidError, match=r"split-incomplete .* 1 of 40 samples have none: s00"):
        split.keep_declared(ids, targets, ids, [None, *declared[1:]], val_fraction=0.1, seed=0)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_declared_split_has_train_and_test(missing):
    ids = [f"s{number:02}" for number in range(40)]
    others = sorted({"train", "val", "test"} - {missing})
    with pytest.raises(InvalidError, match=f"none of 40 samples has the split '{missing}'") as raised:
        split.keep_declared(ids, ["a", "a", "b", "b"] * 10, ids, others * 20, val_fraction=0.1, seed=0)
    assert raised.value.code == "split-too-few" and "data.columns.split" in raised.value.fix


def test_a_declared_split_without_val_is_kept_where_none_is_wanted():
    ids = [f"s{number}" for number in range(6)]
    declared = ["train"] * 4 + ["test"] * 2
    kept = split.keep_declared(ids, list("ababab"), ids, declared, val_fraction=0, seed=0)
    assert kept == declared
    with pytest.raises(InvalidError, match="no sample is left for val"):
        split.keep_declared(ids, list("ababab"), ["g"] * 4 + ids[4:], declared, val_fraction=0.01, seed=0)


def test_counts():
    found = split.counts(["a", "b", "a"], ["train", "train", "test"], ["g", "g", "h"])
    assert found["samples"] == {"train": 2, "val": 0, "test": 1}
    assert found["classes"] == [
        {"label": "a", "train": 1, "val": 0, "test": 1},
        {"label": "b", "train": 1, "val": 0, "test": 0},
    ]
    assert (found["groups"], found["largest_group"]) == (2, 2)


def test_near_pairs_equal_brute_force(monkeypatch):
    monkeypatch.setattr(groups, "_BLOCK_PAIRS", 64)
    rng = np.random.default_rng(0)
    base = rng.integers(0, 1 << 63, 40, dtype=np.uint64)
    hashes = np.unique(np.concatenate([base, base ^ np.uint64(0b1011), base ^ np.uint64(1 << 40)]))
    found = set(groups.near_pairs(hashes, 3))
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(len(hashes)), 2)
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= 3
    }
    assert found == expected and len(found) >= 80


def test_groups_are_components_over_every_link():
    ids = ["d", "c", "b", "a", "e", "f"]
    found = groups.find(
        ids,
        shared=[["x", "x", None, None, None, None], [None, "t", "t", None, None, None]],
        hashes=[None, None, 0b1111, 0b1110, 0, 0],
        near_duplicate_bits=1,
    )
    assert found.names == ["a", "a", "a", "a", "e", "f"] and found.near_duplicate_pairs == 1
    alone = groups.find(ids, shared=[], hashes=[7] * 6, near_duplicate_bits=-1)
    assert alone.names == ids and alone.near_duplicate_pairs == 0
    assert groups.find(ids, shared=[], hashes=[7] * 6, near_duplicate_bits=0).near_duplicate_pairs == 15


def test_texts_are_the_same_but_for_case_space_and_punctuation():
    assert groups.normalise_text("A  Frog!") == groups.normalise_text("a frog.") == "a frog"
    assert groups.normalise_text("!!") == "!!" != groups.normalise_text("??")
