"""Several labels: losses and figures by hand and against scikit-learn, and the whole way."""

import json
import math

import numpy as np
import pytest
import tasked
import torch
from sklearn.metrics import average_precision_score, f1_score
from typer.testing import CliRunner

from mmpipe import gate, metrics, multilabel_scorecard, paths, tables, thresholds
from mmpipe.calibration import fit_binary_temperature
from mmpipe.cli import app
from mmpipe.model.checkpoint import load_bundle
from mmpipe.predict import load
from mmpipe.scorecard import Scores
from mmpipe.targets import Coding
from mmpipe.tasks.multilabel import TASK, Rule
from mmpipe.tasks.task import Decoding, Held, Output, Wishes, Writing
from mmpipe.verdict import Contender, HeldOut, Thresholds

ZERO = torch.zeros(2, 2)


def test_the_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]])  # chances 1/2 and 3/4
    found = TASK.each(logits, torch.tensor([[1.0, 0.0]]))
    assert float(found) == pytest.approx((math.log(2) + math.log(4)) / 2)
    output = Output(ZERO, {"text": ZERO, "audio": ZERO})
    present = {"text": torch.tensor([True, True]), "audio": torch.tensor([True, False])}
    parts = TASK.losses(output, torch.ones(2, 2), present, Rule())
    assert [float(parts[name]) for name in ("task", "text", "audio")] == pytest.approx(
        [math.log(2), math.log(2), math.log(2) / 2]
    )


def test_inverse_weights_make_both_sides_of_a_label_count_alike():
    target = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    rule = TASK.rule(target, Wishes("inverse", 0.2), outputs=2)
    assert rule.positive.tolist() == [3.0, 1.0]
    assert TASK.rule(target, Wishes(), outputs=2).positive is None
    smooth = Rule(smoothing=0.2).each(torch.zeros(1, 1), torch.ones(1, 1))
    assert float(smooth) == pytest.approx(math.log(2))


def test_a_threshold_by_hand():
    """Given from 0.4 on: 2 hits of 3 given, 2 true: F1 = 4/5; no other cut is as good."""
    assert thresholds.best_threshold([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0]) == pytest.approx(0.25)
    assert thresholds.best_threshold([0.9, 0.1], [0, 0]) == 0.5
    assert thresholds.best_threshold([0.7, 0.7, 0.2], [1, 1, 0]) == pytest.approx(0.45)


def test_the_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        chances, wanted = rng.integers(0, 8, 30) / 8, rng.random(30) < 0.3
        found = thresholds.best_threshold(chances, wanted)
        cuts = np.unique(np.append(chances, 2.0))
        best = max(f1_score(wanted, chances >= cut, zero_division=0) for cut in cuts)
        assert f1_score(wanted, chances >= found, zero_division=0) == pytest.approx(best)


def test_a_label_with_few_positives_has_the_common_threshold():
    rng = np.random.default_rng(1)
    wanted = np.zeros((40, 2))
    wanted[:20, 0] = 1
    wanted[:4, 1] = 1
    chances = np.clip(0.4 * wanted + 0.3 * rng.random((40, 2)), 0, 1)
    own = thresholds.fit_thresholds(chances, wanted)
    assert own[1] == pytest.approx(thresholds.best_threshold(chances, wanted), abs=1e-6)
    assert own[0] == pytest.approx(thresholds.best_threshold(chances[:, 0], wanted[:, 0]), abs=1e-6)
    assert thresholds.fit_thresholds(chances[:0], []) == [0.5, 0.5]


def test_the_temperature_undoes_scores_that_were_made_too_sure():
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 3))
    wanted = rng.random((4000, 3)) < 1 / (1 + np.exp(-honest))
    assert fit_binary_temperature(4 * honest, wanted) == pytest.approx(4, rel=0.1)
    assert fit_binary_temperature(np.zeros((0, 3)), np.zeros((0, 3))) == 1


def test_average_precision_is_sklearns_with_ties_and_weights():
    rng = np.random.default_rng(0)
    for _ in range(30):
        scores, wanted = rng.integers(0, 6, 25) / 6, rng.random(25) < 0.4
        wanted[0] = True
        weights = rng.integers(0, 3, (2, 25)).astype(float)
        weights[:, 0] = 1
        assert metrics.average_precision(scores, wanted)[0] == pytest.approx(
            average_precision_score(wanted, scores)
        )
        for found, one in zip(metrics.average_precision(scores, wanted, weights), weights, strict=True):
            assert found == pytest.approx(average_precision_score(wanted, scores, sample_weight=one))


def made(seed=0, count=60):
    """Logits of three labels, right more often than not."""
    rng = np.random.default_rng(seed)
    target = (rng.random((count, 3)) < [0.5, 0.3, 0.1]).astype(np.float32)
    logits = {
        name: 3 * (target - 0.5) + rng.normal(0, 2, target.shape) for name in ("image", "text", "image+text")
    }
    here = {m: np.ones(count, bool) for m in ("image", "text")}
    ids = [f"s{n:02}" for n in range(count)]
    return Scores("test", ids, target, np.array(ids), here, logits, 0)


DECODING = Decoding(["a", "b", "c"], 1.5, {"thresholds": [0.5, 0.4, 0.6]})


def test_figures_are_sklearns():
    scores = made()
    found = multilabel_scorecard.measure(
        scores, "abc", temperature=1.5, thresholds=[0.5, 0.4, 0.6], resamples=60, bins=10
    )
    chances = 1 / (1 + np.exp(-scores.logits["image+text"] / 1.5))
    marks = chances >= [0.5, 0.4, 0.6]
    assert found["micro_f1"] == pytest.approx(f1_score(scores.target, marks, average="micro"), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(f1_score(scores.target, marks, average="macro"), abs=1e-6)
    assert found["subset_accuracy"] == pytest.approx((marks == scores.target).all(axis=1).mean(), abs=1e-6)
    assert found["map"] == pytest.approx(average_precision_score(scores.target, chances), abs=1e-6)
    for name in ("micro_f1", "macro_f1", "subset_accuracy", "map"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    assert [one["support"] for one in found["per_class"]] == scores.target.sum(axis=0).tolist()
    assert found["fusion_gain"]["over"] in ("image", "text")
    assert found["subsets"]["image+text"]["micro_f1"] == found["micro_f1"]


def test_fit_leaves_what_answers_need_and_a_bundle_is_checked():
    scores = made()
    held = Held(Output(torch.tensor(scores.logits["image"]), {}), torch.tensor(scores.target), {})
    decoding = TASK.fit(held, Coding("labels", ("a", "b", "c")), Writing())
    assert TASK.contradiction(decoding, outputs=3) == ""
    assert "2 outputs" in TASK.contradiction(decoding, outputs=2)
    assert TASK.contradiction(Decoding(["a"], 1.0, {}), outputs=1) == "no threshold for each label"
    assert TASK.validate(held).keys() == {"val_micro_f1", "val_loss", "val_loss_calibrated"}
    none = Held(Output(torch.zeros(0, 3), {}), torch.zeros(0, 3), {})
    assert TASK.fit(none, Coding("labels", ("a", "b", "c")), Writing()).facts == {"thresholds": [0.5] * 3}


def test_an_answer_by_hand():
    half = math.log(3) * 1.5  # chances 3/4 after the temperature
    [found] = TASK.says({"text": np.array([[half, -half, half]])}, [("text",)], DECODING)
    assert found["labels"] == ["a", "c"]
    assert found["confidence"] == pytest.approx(0.75**3)
    assert found["probabilities"] == pytest.approx({"a": 0.75, "b": 0.25, "c": 0.75})
    worth = TASK.worth({"": np.zeros((1, 3)), "text": np.array([[half, -half, 0.0]])}, DECODING)
    assert {name: one.tolist() for name, one in worth.items()} == {"": [0.5], "text": [pytest.approx(0.75)]}


def judged(before, after, target, **asked):
    test = HeldOut(target, np.arange(len(target)).astype(str), ["a", "b"], "x")
    old, new = (
        Contender(name, marks, ["a", "b"], 1.0, 1, name) for name, marks in (("old", before), ("new", after))
    )
    return gate.judge(test, old, new, Thresholds(resamples=300, **asked), TASK.rules)


def test_the_gate_wants_a_better_f1_and_guards_each_label():
    target = np.tile([[1.0, 0.0], [0.0, 1.0]], (40, 1))
    weak = np.where(np.arange(80)[:, None] % 4 < 2, target, 0)
    better = judged(weak, target, target)
    assert better.promote and better.figures["gain"]["metric"] == "micro_f1"
    assert better.figures["challenger"]["micro_f1"] == 1
    lost = target * [1, 0]  # all of a, none of b, where the champion had half of each
    refused = judged(weak, lost, target, rule="not_worse")
    assert "recall" in refused.figures["refused_by"]
    assert any("b from 0.500 to 0.000" in reason for reason in refused.reasons)


def cell(row, number):
    """Pitch and shape as labels of their own, and a rare one."""
    return ";".join([*row["label"].split(" "), *(["rare"] if number % 9 == 0 else [])])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("w")
    rows = tasked.write(root, cell)
    tasked.params(
        root,
        data={"target": "labels", "columns": {"target": "cell"}},
        model={"task": "multilabel", "dim": 16},
        train={"class_weights": "inverse"},
    )
    tasked.run(root)
    return root, rows


def test_the_whole_way(workspace):
    root, rows = workspace
    bundle = load_bundle(root / paths.BUNDLE)
    assert bundle.labels == ["circle", "high", "low", "rare", "square", "triangle"]
    assert len(bundle.decoding.facts["thresholds"]) == 6
    found = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert {"micro_f1", "macro_f1", "map", "subset_accuracy", "ece"} <= found.keys()
    page, card = (root / paths.REPORT).read_text(), (root / paths.BUNDLE / "README.md").read_text()
    for text in (page, card):
        assert "Mean average precision" in text and "triangle" in text
    predictions = tables.read(root / paths.PREDICTIONS).to_pylist()
    cells = {row["id"]: set(row["cell"].split(";")) for row in rows}
    assert predictions and all(set(json.loads(row["target"])) == cells[row["id"]] for row in predictions)


def test_the_page_tells_rare_labels_and_what_weights_changed(workspace):
    root, _ = workspace
    training = json.loads((root / paths.METRICS / "train.json").read_text())["classes"]
    rare = next(row for row in training if row["label"] == "rare")
    odds = rare["share"] / (1 - rare["share"])
    assert rare["counted_share"] == 0.5 and rare["offset"] == pytest.approx(-math.log(odds), abs=1e-4)
    tested = json.loads((root / paths.METRICS / "evaluate.json").read_text())["per_class"]
    for row in tested:
        given, without = row["recall_at_half"], row["recall_at_half_uncorrected"]
        offset = next(one["offset"] for one in training if one["label"] == row["label"])
        assert given >= without if offset > 0 else given <= without
    assert any(row["recall_at_half"] != row["recall_at_half_uncorrected"] for row in tested)
    page = (root / paths.REPORT).read_text()
    section = page[page.index('<section id="balance"') :].split("</section>")[0]
    assert "Rare labels" in section and "recall at 50 %, correction taken out" in section
    assert f"{100 * rare['share']:.1f} %" in section and f"{rare['offset']:+.2f}" in section


def test_raw_samples_are_answered_as_in_the_evaluation(workspace):
    root, rows = workspace
    predictor = load(root / paths.BUNDLE, device="cpu")
    raw = {row["id"]: row for row in rows}
    row = next(
        r for r in tables.read(root / paths.PREDICTIONS).to_pylist() if r["modalities"].count("+") == 2
    )
    given = {m: root / paths.RAW / raw[row["id"]][m] for m in ("image", "audio")}
    found = predictor.explain(**given, text=raw[row["id"]]["text"])
    assert found.labels == json.loads(row["prediction"])
    assert list(found.probabilities.values()) == pytest.approx(row["probabilities"], abs=1e-5)
    assert found.baseline + sum(found.contributions.values()) == pytest.approx(
        max(found.probabilities.values())
    )


def test_commands_tell_labels_tables_and_the_verdict(workspace, tmp_path):
    root, _ = workspace
    with tasked.inside(root):
        one = CliRunner().invoke(app, ["predict", "--text", "a round shape"], catch_exceptions=False)
        assert "(from text)" in one.stdout and "%" in one.stdout
        out = tmp_path / "out.csv"
        call = ["predict", "data/raw/manifest.csv", "-o", str(out)]
        assert CliRunner().invoke(app, call, catch_exceptions=False).exit_code == 0
        judged = CliRunner().invoke(
            app, ["gate", "--champion", "models/fusion", "--json"], catch_exceptions=False
        )
        counted = CliRunner().invoke(app, ["samples", "--json"], catch_exceptions=False)
    assert "probability circle" in out.read_text().splitlines()[0]
    verdict = json.loads(judged.stdout)
    assert judged.exit_code == 5 and verdict["figures"]["gain"]["metric"] == "micro_f1"
    assert json.loads(counted.stdout)["targets"]["rare"] == 10
