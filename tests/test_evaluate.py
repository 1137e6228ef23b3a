"""Scores of every subset are what hiding the other modalities gives; the numbers follow from the scores."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_bundle
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from tiny_bundle import CODING, LABELS

from mmpipe import batches, evaluate, metrics, paths, schema, scorecard, tables
from mmpipe.errors import InvalidError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.stages import evaluate as stage

FULL = "audio+image+text"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(root)
    return root


@pytest.fixture(scope="module")
def bundle(root):
    return load_bundle(root / paths.BUNDLE)


@pytest.fixture(scope="module")
def features(root):
    return {m: root / paths.features(m) for m in schema.MODALITIES}


@pytest.fixture(scope="module")
def scores(root, bundle, features):
    return evaluate.score(bundle, features, root / paths.SPLITS, "test", batch_size=4)


@pytest.fixture(scope="module")
def found(scores):
    return scorecard.measure(scores, LABELS, temperature=1.5, resamples=50, bins=15)


def test_every_subset_is_named_once():
    assert scorecard.subsets_of(["b", "c", "a"]) == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]


def test_subsets_equal_data_without_the_other_modalities(root, bundle, features, scores):
    """Hiding after encoding against features that never were there, one sample at a time."""
    dataset = batches.load(features, root / paths.SPLITS, "test", coding=CODING)
    assert list(scores.logits) == scorecard.subsets_of(schema.MODALITIES)
    for subset, found in scores.logits.items():
        shown = subset.split("+")
        for row in range(0, len(dataset), 4):
            batch = dataset.batch(np.array([row]))
            hidden = {m: here & (m in shown) for m, here in batch.present.items()}
            noise = {m: x if m in shown else torch.zeros_like(x) for m, x in batch.inputs.items()}
            with torch.no_grad():
                direct = bundle.model(replace(batch, inputs=noise, present=hidden)).logits
            assert found[row] == pytest.approx(direct[0].double().numpy(), abs=1e-5)


def test_a_modality_that_a_sample_lacks_changes_nothing(scores):
    lacking = ~scores.present["audio"]
    assert lacking.any()
    assert np.array_equal(scores.logits[FULL][lacking], scores.logits["image+text"][lacking])


def test_numbers_follow_from_the_scores(scores, found):
    for subset, one in found["subsets"].items():
        inside = np.any([scores.present[m] for m in subset.split("+")], axis=0)
        predicted = scores.logits[subset][inside].argmax(axis=1)
        assert one["samples"] == inside.sum()
        assert one["accuracy"] == pytest.approx(accuracy_score(scores.target[inside], predicted), abs=1e-6)
        macro = f1_score(scores.target[inside], predicted, average="macro")
        assert one["macro_f1"] == pytest.approx(macro, abs=1e-6)
        assert one["accuracy_95"][0] <= one["accuracy"] <= one["accuracy_95"][1]
    assert found["samples"] + found["samples_left_out"] == len(scores.ids)
    assert found["subsets"]["audio"]["samples"] < found["samples"]
    full = found["subsets"][FULL]
    assert full["accuracy_95"] == [found["accuracy_low"], found["accuracy_high"]]
    assert [full[key] for key in ("accuracy", "macro_f1")] == [found[key] for key in ("accuracy", "macro_f1")]
    for suffix, temperature in (("_raw", 1.0), ("", 1.5)):
        chances = metrics.softmax(scores.logits[FULL], temperature)
        assert found[f"nll{suffix}"] == pytest.approx(
            log_loss(scores.target, chances, labels=range(3)), abs=1e-6
        )
    assert sum(one["support"] for one in found["per_class"]) == len(scores.ids)


def made(right: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> scorecard.Scores:
    """Scores of a two-class problem with target 0 that are right where told."""
    count = len(next(iter(right.values())))
    logits = {name: np.where(hit[:, None], [1.0, 0.0], [0.0, 1.0]) for name, hit in right.items()}
    ids = [f"s{n}" for n in range(count)]
    return scorecard.Scores("test", ids, np.zeros(count, int), np.array(ids), present, logits, 0)


def measured(fused: np.ndarray, alone: np.ndarray) -> dict:
    here = np.ones(len(fused), bool)
    scores = made({"image": alone, "text": ~here, "image+text": fused}, {"image": here, "text": here})
    return scorecard.measure(scores, ["a", "b"], temperature=1.0, resamples=500, bins=15)


def test_verdict_is_plain():
    rng = np.random.default_rng(0)
    alone = rng.random(200) < 0.6
    better, worse = alone | (rng.random(200) < 0.4), alone & (rng.random(200) < 0.6)
    other = np.roll(alone, 7)
    for fused, word in ((better, "beats"), (worse, "loses to"), (other, "cannot be told from")):
        found = measured(fused, alone)
        assert f"fusion {word} its best subset, image:" in scorecard.verdict(found)
        assert found["fusion_gain"]["accuracy"] == pytest.approx(fused.mean() - alone.mean(), abs=1e-6)
    assert measured(better, alone)["fusion_gain"]["p"] < 0.01
    assert measured(alone, alone)["fusion_gain"]["p"] == 1


def test_a_rival_must_score_half_of_the_samples():
    few = np.zeros(100, bool)
    few[:3] = True
    here = np.ones(100, bool)
    right = {"audio": here, "text": np.arange(100) < 40, "audio+text": np.arange(100) < 50}
    assert scorecard.best_rival(made(right, {"audio": few, "text": here})) == "text"


def test_one_modality_has_no_rival(tmp_path):
    tiny_bundle.write(tmp_path, modalities=["text"])
    one = load_bundle(tmp_path / paths.BUNDLE)
    features = {m: tmp_path / paths.features(m) for m in schema.MODALITIES}
    scores = evaluate.score(one, features, tmp_path / paths.SPLITS, "test", batch_size=100)
    found = scorecard.measure(scores, LABELS, temperature=1.0, resamples=20, bins=5)
    assert list(found["subsets"]) == ["text"]
    assert "fusion_gain" not in found
    assert found["samples"] + found["samples_left_out"] == len(scores.ids)
    assert found["samples_left_out"] > 0
    assert len(scorecard.predictions([scores], LABELS, temperature=1.0)) == found["samples"]


def test_nothing_to_measure_on_is_an_error(scores):
    empty = replace(scores, present={m: here & False for m, here in scores.present.items()})
    with pytest.raises(InvalidError, match="no test sample can be scored"):
        scorecard.measure(empty, LABELS, temperature=1.0, resamples=10, bins=5)


def test_stage_writes_everything_and_the_same_bytes(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (root / "params.yaml").write_text("evaluate: {bootstrap: 50, threads: 1, calibration_bins: 7}\n")
    outs = [paths.PREDICTIONS, paths.METRICS / "evaluate.json"]
    outs += [paths.PLOTS / f"{name}.csv" for name in ("confusion", "calibration", "subsets")]
    stage.main()
    first = [path.read_bytes() for path in outs]
    stage.main()
    assert [path.read_bytes() for path in outs] == first
    assert "test samples" in capsys.readouterr().out
    table = tables.read(paths.PREDICTIONS, schema.predictions(LABELS))
    rows = table.to_pylist()
    splits = {r["id"]: r["split"] for r in pq.read_table(paths.SPLITS).to_pylist() if r["split"] != "train"}
    assert [(r["id"], r["split"]) for r in rows] == sorted(splits.items())
    for row in rows:
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == LABELS[int(np.argmax(row["probabilities"]))]
        assert row["confidence"] == max(row["probabilities"])
    found = json.loads(outs[1].read_text())
    test = [r for r in rows if r["split"] == "test"]
    assert found["calibration_bins"] == 7
    assert found["accuracy"] == pytest.approx(
        np.mean([r["prediction"] == r["target"] for r in test]), abs=1e-6
    )
    with outs[2].open() as file:
        pairs = [(r["actual"].lstrip("'"), r["predicted"].lstrip("'")) for r in csv.DictReader(file)]
    assert pairs == [(r["target"], r["prediction"]) for r in test]
    assert "'=tenor" in outs[2].read_text()  # no formula for a spreadsheet
    with outs[4].open() as file:
        assert [r["modalities"] for r in csv.DictReader(file)] == scorecard.subsets_of(schema.MODALITIES)
