"""Cells of every kind: as they are stored, as numbers, and what a split keeps in balance."""

import json

import numpy as np
import pytest

from mmpipe import batches, ingest, manifest, schema, split, tables, targets
from mmpipe.errors import InvalidError
from mmpipe.manifest import BadRow, Row
from mmpipe.targets import Coding


@pytest.mark.parametrize(
    ("kind", "cell", "stored"),
    [
        ("label", "cat; dog", "cat; dog"),
        ("labels", "dog; cat;cat ;", '["cat", "dog"]'),
        ("labels", '["dog", "cat", 3]', '["3", "cat", "dog"]'),
        ("labels", "[]", "[]"),
        ("labels", "größe", '["größe"]'),
        ("number", " 3", "3.0"),
        ("number", "1e3", "1000.0"),
        ("text", "Un chat, deux!", "Un chat, deux!"),
        ("none", "anything", None),
        ("label", None, None),
    ],
)
def test_a_cell_is_stored_in_one_way(kind, cell, stored):
    assert targets.canonical(cell, kind, separator=";") == stored


@pytest.mark.parametrize(
    ("kind", "cell", "words"),
    [
        ("number", "three", "'three' is no finite number"),
        ("number", "nan", "'nan' is no finite number"),
        ("number", "inf", "is no finite number"),
        ("labels", '["a"', "starts as a JSON list and is none"),
        ("labels", '[["a"]]', "is a list of other things than labels"),
        ("text", "?! —", "'?! —' has neither letter nor digit"),
        ("labels", "[true]", "is a list of other things than labels"),
        ("labels", "[" * 100_000, "starts as a JSON list and is none"),
    ],
)
def test_what_is_no_target_is_said(kind, cell, words):
    with pytest.raises(ValueError) as caught:
        targets.canonical(cell, kind, separator=";")
    assert words in str(caught.value)


def test_labels_become_places_and_several_become_marks():
    one = targets.fit("label", ["b", "a", "b"])
    assert one == Coding("label", ("a", "b"))
    assert targets.encode(one, ["b", "a"]).tolist() == [1, 0]
    with pytest.raises(InvalidError, match=r"here has no train sample of 'c'"):
        targets.encode(one, ["c"], where="here")
    several = targets.fit("labels", ['["a", "c"]', "[]", '["b"]'])
    assert several.labels == ("a", "b", "c")
    found = targets.encode(several, ['["c", "zzz"]', "[]", '["a", "b"]'])
    assert found.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]  # train lacks zzz


def test_numbers_are_standardised_by_train():
    coding = targets.fit("number", ["1.0", "3.0"])
    assert (coding.mean, coding.deviation) == (2.0, 1.0)
    assert targets.encode(coding, ["5.0", "2.0"]).tolist() == [3.0, 0.0]
    with pytest.raises(InvalidError, match=r"all 2 train samples have one target, 1\.0"):
        targets.fit("number", ["1.0", "1.0"])
    assert targets.encode(targets.fit("none", [None, None]), [None]).tolist() == [-1]


def test_texts_become_ids_of_the_units_of_the_train_split(tmp_path):
    cells = [("train", "Ab"), ("train", "ba b"), ("test", "a cab!"), ("val", "?c")]
    rows = [
        {"id": f"s{n}", "split": part, "group": f"s{n}", "target": cell}
        for n, (part, cell) in enumerate(cells)
    ]
    tables.write_rows(tmp_path / "splits.parquet", rows, schema.SPLIT)
    coding = batches.fit_coding(tmp_path / "splits.parquet", "text")
    assert coding.texts == ("Ab", "ba b") and coding.units.size == 4  # what is no unit, " ", "a" and "b"
    found = targets.encode(coding, [cell for _, cell in cells])
    assert found.tolist() == [[2, 3, -1, -1], [3, 2, 1, 3], [2, 1, 2, 3], [-1] * 4]  # train has no c
    assert targets.encode(coding, []).shape == (0, 0)
    assert targets.strata("text", ["a", "b"]) == [(), ()]
    pieces = batches.fit_coding(tmp_path / "splits.parquet", "text", pieces="bpe", most=10)
    assert pieces.units.decode(targets.encode(pieces, ["ba b"])[0].tolist()) == "ba b"


def test_a_large_mean_costs_no_digits():
    coding = targets.fit("number", [str(1e9 + n) for n in range(10)])
    found = targets.encode(coding, [str(1e9 + 3)]).astype(np.float64) * coding.deviation + coding.mean
    assert found[0] == pytest.approx(1e9 + 3, abs=1e-5)


def test_tenths_of_numbers_are_kept_in_balance():
    cells = [f"{float(n)}" for n in range(100)]
    strata = targets.strata("number", cells)
    assert len(set(strata)) == 10 and all(strata.count(one) == 10 for one in set(strata))
    ids = [f"s{n:03}" for n in range(100)]
    splits = split.assign(ids, strata, ids, test_fraction=0.2, val_fraction=0.1, fold=0, seed=0)
    tested = [one for one, part in zip(strata, splits, strict=True) if part == "test"]
    assert all(tested.count(one) == 2 for one in set(strata))
    assert targets.strata("number", ["1.0", "1.0"]) == [(), ()]


def test_every_label_of_several_is_kept_in_balance_and_no_group_is_parted():
    rng = np.random.default_rng(0)
    names = [f"l{n}" for n in range(8)]
    cells = [json.dumps([name for name in names if rng.random() < 0.2]) for _ in range(400)]
    ids = [f"s{n:03}" for n in range(400)]
    groups = [f"g{n // 2:03}" for n in range(400)]
    strata = targets.strata("labels", cells)
    splits = split.assign(ids, strata, groups, test_fraction=0.2, val_fraction=0.1, fold=1, seed=0)
    assert splits.count("test") == pytest.approx(80, abs=3)
    for name in names:
        has = [name in one for one in strata]
        tested = sum(here and part == "test" for here, part in zip(has, splits, strict=True))
        assert tested / sum(has) == pytest.approx(0.2, abs=0.03)
    assert len({(group, part) for group, part in zip(groups, splits, strict=True)}) == 200
    counted = {row["label"]: row for row in split.counts(strata, splits, groups)["classes"]}
    assert sum(counted["l0"][part] for part in ("train", "val", "test")) == sum("l0" in s for s in strata)


def test_without_targets_only_sizes_count():
    ids = [f"s{n:03}" for n in range(50)]
    splits = split.assign(ids, [()] * 50, ids, test_fraction=0.2, val_fraction=0.1, fold=0, seed=0)
    assert [splits.count(part) for part in ("train", "val", "test")] == [35, 5, 10]


def rows(folder, *cells, kind, lists=False):
    """What ingest makes of a JSONL manifest with these targets."""
    lines = [json.dumps({"text": f"words {n}", "label": cell}) for n, cell in enumerate(cells)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    read = manifest.read(folder / "rows.jsonl", manifest.COLUMNS | {"id": None}, lists=lists)
    return [ingest.Target(kind).read(row) if isinstance(row, Row) else row for row in read]


def test_a_list_is_a_target_only_where_there_are_several_labels(tmp_path):
    good = rows(tmp_path, ["b", "a"], "b;a", kind="labels", lists=True)
    assert [row.target for row in good] == ['["a", "b"]', '["a", "b"]']
    [bad] = rows(tmp_path, ["b", "a"], kind="label")
    assert isinstance(bad, BadRow) and bad.code == "row-malformed"


def test_a_row_of_another_kind_is_put_aside(tmp_path):
    good, bad = rows(tmp_path, 2.5, "much", kind="number")
    assert good.target == "2.5"
    assert (bad.code, bad.what) == ("row-bad-target", "its target 'much' is no finite number")
