"""What differs between two versions, counted by hand on tiny workspaces."""

import pytest
import tiny_versions
from tiny_versions import compare

from mmpipe import bundle, paths
from mmpipe.compare import difference, side, text
from mmpipe.errors import NotFoundError, VerificationError


@pytest.fixture
def old(tmp_path):
    return tiny_versions.write(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return tiny_versions.write_changed(tmp_path / "new")


def test_a_workspace_does_not_differ_from_itself(old):
    found = compare(old, old)
    assert found["old"] == found["new"]
    assert found["params"] == found["environment"] == found["code"] == []
    assert {row["delta"] for row in found["metrics"]} == {0}
    data = found["data"]
    assert [data[key]["count"] for key in ("added", "removed", "changed", "relabelled")] == [0, 0, 0, 0]
    assert data["labels"]["shift"] == 0 and found["size"]["files"] == []
    assert found["predictions"]["samples"] == 4
    assert sum(one["count"] for one in found["predictions"]["flips"].values()) == 0


def test_params_by_dotted_key(old, new):
    assert compare(old, new)["params"] == [
        {"name": "train.epochs", "old": 3},
        {"name": "train.lr", "old": 0.001, "new": 0.01},
        {"name": "train.patience", "new": 5},
    ]


def test_samples_are_counted_by_content(old, new):
    data = compare(old, new)["data"]
    assert (data["old"], data["new"], data["renamed"]) == (6, 7, 1)
    assert data["added"] == {"count": 2, "ids": ["g", "h"]}
    assert data["removed"] == {"count": 1, "ids": ["f"]}
    assert data["changed"] == {"count": 2, "ids": ["a", "d"]}
    assert data["relabelled"] == {"count": 1, "ids": ["c"]}
    assert data["modalities"] == {
        "audio": {"old": 3, "new": 4, "added": 1, "removed": 0, "changed": 1},
        "image": {"old": 5, "new": 5, "added": 1, "removed": 1, "changed": 1},
        "text": {"old": 5, "new": 7, "added": 3, "removed": 1, "changed": 0},
    }


def test_labels_and_sizes_shift(old, new):
    data = compare(old, new)["data"]
    assert data["labels"]["counts"] == [
        {"label": "alto", "old": 0, "new": 1},
        {"label": "bass", "old": 3, "new": 4},
        {"label": "tenor", "old": 3, "new": 2},
    ]
    assert data["labels"]["shift"] == pytest.approx(3 / 6 - 2 / 7, abs=1e-6)  # what tenor lost
    sizes = {one["name"]: (one["old"], one["new"]) for one in data["sizes"]}
    assert sizes["audio, s"] == (
        {"samples": 3, "mean": pytest.approx(7 / 3, abs=1e-6), "median": 2.0, "total": 7.0},
        {"samples": 4, "mean": 3.5, "median": 3.5, "total": 14.0},
    )
    assert sizes["image width, px"][0] == {"samples": 5, "mean": 40.0, "median": 40.0}
    assert sizes["text, characters"][0]["total"] == len("low" + "lower" + "high" + "higher" + "very low")


def test_moves_between_splits(old, new):
    found = compare(old, new)["splits"]
    assert found["old"] == {"train": 1, "val": 1, "test": 4}
    assert found["new"] == {"train": 1, "val": 1, "test": 5}
    assert found["moved"] == [{"from": "train", "to": "test", "count": 1, "ids": ["e"]}]


def test_metrics_with_intervals(old, new):
    rows = {row["name"]: row for row in compare(old, new)["metrics"]}
    accuracy = {"name": "accuracy", "old": 0.5, "new": 0.75, "delta": 0.25}
    assert rows["accuracy"] == accuracy | {"old_95": [0.4, 0.6], "new_95": [0.65, 0.85]}
    assert rows["subsets.text.accuracy"]["new_95"] == [pytest.approx(0.55), pytest.approx(0.95)]
    assert rows["train.val_loss"]["delta"] == 0
    assert not {"accuracy_low", "fusion_gain.accuracy", "subsets.text.accuracy_95"} & set(rows)


def test_classes_of_either(old, new):
    alto, bass, tenor = compare(old, new)["classes"]
    assert alto == {"label": "alto", "recall": {"new": 1.0}, "f1": {"new": 0.5}, "samples": {"new": 2}}
    assert bass["recall"] == {"old": 0.5, "new": 1.0, "delta": 0.5}
    assert tenor["f1"]["delta"] == 0


def test_flips_only_of_the_same_samples(old, new):
    """a and d have other contents, c another label, e was in train: only b is left."""
    found = compare(old, new)["predictions"]
    assert found["samples"] == 1
    assert found["left_out"] == {"only_old": 0, "only_new": 1, "changed": 3}
    b = {"id": "b", "target": "bass", "old": "tenor", "new": "bass"}
    assert found["flips"]["wrong to right"] == {"count": 1, "examples": [b]}
    assert found["accuracy"] == {"old": 0, "new": 1, "delta": 1, "low": 1, "high": 1, "p": 1}


def test_every_kind_of_flip(tmp_path):
    labels = ["alto", "bass", "tenor"]

    def workspace(name, given):
        rows = {
            f"{n:02}": (labels[n % 3], "test", guess, f"i{n}", None, None) for n, guess in enumerate(given)
        }
        return tiny_versions.write(tmp_path / name, rows)

    right = [labels[n % 3] for n in range(12)]
    was = [*right[:8], "tenor", "alto", "bass", "alto"]  # wrong: 11 alone
    now = ["bass", "alto", *right[2:8], "tenor", "alto", "tenor", "tenor"]
    found = compare(workspace("one", was), workspace("two", now))["predictions"]
    counts = {kind: one["count"] for kind, one in found["flips"].items()}
    assert counts == {"wrong to right": 1, "right to wrong": 3, "wrong to other wrong": 0}
    assert [one["id"] for one in found["flips"]["right to wrong"]["examples"]] == ["00", "01", "10"]
    accuracy = found["accuracy"]
    assert (accuracy["old"], accuracy["new"]) == (pytest.approx(11 / 12, abs=1e-6), pytest.approx(9 / 12))
    assert accuracy["delta"] == pytest.approx(-2 / 12, abs=1e-6)
    assert accuracy["low"] < accuracy["delta"] < accuracy["high"]
    assert accuracy["p"] == 0.625  # of four flips, three or more to one side: 2 · (4 + 1) / 2⁴


def test_wrong_to_other_wrong(tmp_path):
    rows = {"x": ("bass", "test", "alto", "i", None, None), "y": ("alto", "test", "alto", "j", None, None)}
    other = rows | {"x": ("bass", "test", "tenor", "i", None, None)}
    found = compare(tiny_versions.write(tmp_path / "one", rows), tiny_versions.write(tmp_path / "two", other))
    assert found["predictions"]["flips"]["wrong to other wrong"]["count"] == 1
    assert found["predictions"]["accuracy"]["delta"] == 0


def test_environment_code_and_size(old, new):
    found = compare(old, new)
    assert found["environment"] == [
        {"name": "libraries.mmpipe", "old": "0.1.0", "new": "0.2.0"},
        {"name": "libraries.torch", "new": "2.11.0"},
    ]
    parts = {"changed": ["mmpipe.train"], "added": [], "removed": []}
    assert found["code"] == [{"stage": "train", **parts}]
    sizes = {one["name"]: (one["old"], one["new"]) for one in found["size"]["files"]}
    assert sizes[bundle.WEIGHTS] == (len(b"weights"), len(b"other weights"))
    assert found["size"]["new"] == sum(len(data) for data in bundle.read(new / paths.BUNDLE).files.values())


def test_what_is_not_there_is_said_and_the_rest_goes_on(old, new):
    (new / paths.SAMPLES).unlink()
    (old / paths.METRICS / "evaluate.json").unlink()
    found = compare(old, new)
    assert found["data"]["missing"].endswith("data/samples.parquet is not there: run `dvc repro`")
    assert found["metrics"]["missing"] == found["classes"]["missing"]
    assert found["predictions"]["samples"] == 3  # without samples, by label alone: a, b and d
    assert len(found["params"]) == 3
    assert any(line.startswith("Data:        not compared: ") for line in text.lines(found))


def test_a_bundle_alone_has_its_metrics_and_params(old, new):
    found = compare(old / paths.BUNDLE, new / paths.BUNDLE)
    assert next(row for row in found["metrics"] if row["name"] == "accuracy")["delta"] == 0.25
    assert found["params"] == []  # of what the bundles' configs say
    assert {name for name in difference.SECTIONS if "missing" in found[name]} == {
        "data",
        "splits",
        "predictions",
        "code",
    }


def test_damage_ends_the_comparison(old, new):
    path = new / paths.SAMPLES
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"samples\.parquet is damaged"):
        compare(old, new)


def test_neither_tag_nor_folder(tmp_path):
    for what in ("nowhere", str(tmp_path)):
        with pytest.raises(NotFoundError, match="neither a tag nor a workspace nor a bundle"):
            side.read(what)
