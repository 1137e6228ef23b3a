"""A number: losses and figures by hand and against scikit-learn, and the whole way."""

import json
import math

import numpy as np
import pytest
import tasked
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from typer.testing import CliRunner

from mmpipe import gate, metrics, paths, regression_scorecard, tables
from mmpipe.cli import app
from mmpipe.corpora.shapes import SHAPES
from mmpipe.model.checkpoint import load_bundle
from mmpipe.predict import load
from mmpipe.scorecard import Scores
from mmpipe.targets import Coding
from mmpipe.tasks.regress import TASK, Rule
from mmpipe.tasks.task import Decoding, Held, Output, Wishes, Writing
from mmpipe.verdict import Contender, HeldOut, Thresholds


def test_the_losses_by_hand():
    logits, target = torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0], dtype=torch.float64)
    assert TASK.each(logits, target).tolist() == [0.125, 2.5]  # Huber: 0.5²/2; 3 - 1/2
    rule = TASK.rule(target, Wishes(regression="mse"), outputs=1)
    assert rule.each(logits, target).tolist() == [0.25, 9.0]
    output = Output(logits, {"text": logits, "audio": torch.zeros(2, 1)})
    present = {"text": torch.tensor([True, False]), "audio": torch.tensor([True, True])}
    parts = TASK.losses(output, target, present, Rule())
    assert [float(parts[m]) for m in ("task", "text", "audio")] == [1.3125, 0.0625, 0.0]


def test_ranks_by_hand():
    assert regression_scorecard.ranks([10, 30, 10, 20]).tolist() == [1.5, 4, 1.5, 3]


def test_figures_are_sklearns_and_spearman_is_pearsons_of_ranks():
    rng = np.random.default_rng(0)
    for offset in (0, 1e6):
        wanted = rng.normal(offset, 3, 50).round(1)
        given = wanted + rng.normal(0, 2, 50).round(1)
        sums = regression_scorecard.columns(given, wanted).sum(axis=0, keepdims=True)
        mae, rmse, r2, rho = regression_scorecard.figures(sums)[0]
        assert mae == pytest.approx(mean_absolute_error(wanted, given))
        assert rmse == pytest.approx(root_mean_squared_error(wanted, given))
        assert r2 == pytest.approx(r2_score(wanted, given))
        one, other = (regression_scorecard.ranks(of) for of in (given, wanted))
        assert rho == pytest.approx(np.corrcoef(one, other)[0, 1])


def test_without_variation_nothing_is_explained():
    sums = regression_scorecard.columns(np.array([1.0, 2.0]), np.array([3.0, 3.0])).sum(axis=0, keepdims=True)
    assert regression_scorecard.figures(sums)[0].tolist() == [1.5, math.sqrt(2.5), 0, 0]


def made(count=80, seed=0):
    """Standardised scores of two modalities and both; together they are nearer."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 1, count)
    noise = {"image": 1.0, "text": 0.8, "image+text": 0.3}
    logits = {name: (target + rng.normal(0, size, count))[:, None] for name, size in noise.items()}
    here = {m: np.ones(count, bool) for m in ("image", "text")}
    ids = [f"s{n:02}" for n in range(count)]
    return Scores("test", ids, target, np.array(ids), here, logits, 0)


def test_figures_are_in_the_targets_unit_and_fusion_is_held_against_its_best_subset():
    scores = made()
    found = regression_scorecard.measure(scores, mean=100.0, deviation=10.0, resamples=200)
    off = 10 * abs(scores.logits["image+text"][:, 0] - scores.target)
    assert found["mae"] == pytest.approx(off.mean(), abs=1e-5)
    assert found["subsets"]["text"]["mae"] > found["mae"] == found["subsets"]["image+text"]["mae"]
    for name in ("mae", "rmse", "r2", "spearman"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    less = 10 * abs(scores.logits["text"][:, 0] - scores.target) - off
    assert found["fusion_gain"]["over"] == "text" and found["fusion_gain"]["p"] < 0.01
    assert found["fusion_gain"]["mae"] == pytest.approx(less.mean(), abs=1e-5)
    assert "fusion beats its best subset, text: +" in TASK.summary(found)


def test_a_mean_of_paired_differences_and_its_p():
    less, p = metrics.gain([1.0] * 20, range(20), resamples=100)
    assert (less.value, less.low, less.high, p) == (1, 1, 1, 1 / 101)


DECODING = Decoding(facts={"mean": 100.0, "deviation": 10.0})


def test_answers_are_told_in_the_targets_unit():
    assert TASK.says({"text": np.array([[0.5], [-1.0]])}, [("text",)] * 2, DECODING) == [
        {"value": 105.0},
        {"value": 90.0},
    ]
    worth = TASK.worth({"": np.zeros((1, 1)), "text": np.ones((1, 1))}, DECODING)
    assert {name: one.tolist() for name, one in worth.items()} == {"": [100.0], "text": [110.0]}


def test_a_bundles_facts_are_checked():
    held = Held(Output(torch.zeros(3, 1), {}), torch.zeros(3), {})
    decoding = TASK.fit(held, Coding("number", mean=5.0, deviation=2.0), Writing())
    assert decoding.facts == {"mean": 5.0, "deviation": 2.0} and TASK.contradiction(decoding, outputs=1) == ""
    assert "2 outputs" in TASK.contradiction(decoding, outputs=2)
    for facts in ({}, {"mean": "x", "deviation": 1.0}, {"mean": 1.0, "deviation": 0.0}, {"mean": 1.0}):
        assert TASK.contradiction(Decoding(facts=facts), outputs=1) == "no mean and deviation of the targets"


def judged(before, after, target, **asked):
    test = HeldOut(np.asarray(target), np.arange(len(target)).astype(str), [], "x")
    old, new = (
        Contender(name, np.asarray(given, float)[:, None], [], 1.0, 1, name)
        for name, given in (("old", before), ("new", after))
    )
    return gate.judge(test, old, new, Thresholds(resamples=500, **asked), TASK.rules)


def test_the_gate_wants_a_smaller_error():
    rng = np.random.default_rng(0)
    target = rng.normal(50, 10, 60)
    near, far = target + rng.normal(0, 1, 60), target + rng.normal(0, 4, 60)
    found = judged(far, near, target)
    assert found.promote
    assert found.figures["champion"]["mae"] == pytest.approx(abs(far - target).mean(), abs=1e-6)
    assert found.figures["gain"]["value"] == pytest.approx(
        abs(far - target).mean() - abs(near - target).mean(), abs=1e-6
    )
    assert found.reasons[0].startswith("mae is better: 0.")
    assert not judged(near, far, target).promote
    assert judged(far, near, target, metric="r2").figures["challenger"]["r2"] == pytest.approx(
        r2_score(target, near), abs=1e-6
    )


def test_no_answer_counts_as_the_mean():
    target = [0.0, 10.0, 20.0]
    found = judged(target, [math.nan, 10.0, 20.0], target)
    assert found.figures["challenger"]["mae"] == pytest.approx(10 / 3, abs=1e-6)
    assert found.figures["challenger"]["unanswered"] == 1
    assert "new has no answer to 1 test samples, of which it counts as saying the mean." in found.reasons


def cell(row, number):
    """Corners of the shape, and a half for a high pitch: 0.0 to 2.5."""
    pitch, shape = row["label"].split(" ")
    return str(SHAPES.index(shape) + (0.5 if pitch == "high" else 0.0))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("w")
    rows = tasked.write(root, cell)
    data = {"target": "number", "columns": {"target": "cell"}}
    tasked.params(
        root, data=data, model={"task": "regress", "dim": 16}, train=tasked.SMALL["train"] | {"epochs": 8}
    )
    tasked.run(root)
    return root, rows


def test_the_whole_way(workspace):
    root, rows = workspace
    bundle = load_bundle(root / paths.BUNDLE)
    assert bundle.labels == [] and bundle.decoding.facts["deviation"] > 0
    found = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert {"mae", "mae_low", "rmse", "r2", "spearman"} <= found.keys()
    page, card = (root / paths.REPORT).read_text(), (root / paths.BUNDLE / "README.md").read_text()
    assert "Predicted against actual, test" in page and "RMSE" in page and "RMSE" in card
    cells = {row["id"]: float(row["cell"]) for row in rows}
    predictions = tables.read(root / paths.PREDICTIONS).to_pylist()
    assert predictions and all(float(row["target"]) == cells[row["id"]] for row in predictions)
    off = [abs(row["prediction"] - cells[row["id"]]) for row in predictions if row["split"] == "test"]
    assert found["mae"] == pytest.approx(np.mean(off), abs=1e-5)


def test_raw_samples_are_answered_as_in_the_evaluation(workspace):
    root, rows = workspace
    predictor = load(root / paths.BUNDLE, device="cpu")
    raw = {row["id"]: row for row in rows}
    row = next(
        r for r in tables.read(root / paths.PREDICTIONS).to_pylist() if r["modalities"].count("+") == 2
    )
    given = {m: root / paths.RAW / raw[row["id"]][m] for m in ("image", "audio")}
    found = predictor.explain(**given, text=raw[row["id"]]["text"])
    assert found.value == pytest.approx(row["prediction"], abs=1e-4)
    assert found.baseline + sum(found.contributions.values()) == pytest.approx(found.value)


def call(*arguments):
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_commands_tell_numbers_tables_and_the_verdict(workspace, tmp_path):
    root, _ = workspace
    with tasked.inside(root):
        one = call("predict", "--text", "a round shape", "--explain")
        out = tmp_path / "out.jsonl"
        assert call("predict", "data/raw/manifest.csv", "-o", str(out)).exit_code == 0
        verdict = call("gate", "--champion", "models/fusion", "--json")
        counted = json.loads(call("samples", "--json").stdout)
    float(one.stdout.split("  (from text)")[0])
    assert "what each modality adds:" in one.stdout and "points" not in one.stdout
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 90 and all(isinstance(line["prediction"], float) for line in lines)
    assert json.loads(verdict.stdout)["figures"]["gain"]["metric"] == "mae"
    assert sum(counted["targets"].values()) == counted["rows"]


def test_drift_compares_no_numbers_as_if_they_were_labels(workspace, tmp_path):
    root, _ = workspace
    lines = [f"n{n},a round shape that was seen {n} times,{n}.25" for n in range(25)]
    (tmp_path / "new.csv").write_text("\n".join(["id,text,cell", *lines]) + "\n")
    with tasked.inside(root):
        found = json.loads(call("drift", str(tmp_path / "new.csv"), "--champion", ".", "--json").stdout)
    assert found["new"] == 25 and found["unknown_labels"] == {}
    names = {one["name"] for one in found["checks"]}
    assert "with image" in names and not names & {"labels", "predicted labels"}


def test_a_champion_of_another_task_is_not_compared(workspace, tmp_path):
    import tiny_bundle

    root, _ = workspace
    tiny_bundle.write(tmp_path)
    with tasked.inside(root):
        done = call("gate", "--champion", str(tmp_path / paths.BUNDLE))
    assert done.exit_code == 5
    assert "is a model of classify, models/fusion of regress: no figure compares them" in done.stderr


def test_a_cell_that_is_no_number_is_put_aside(tmp_path):
    tasked.write(tmp_path, lambda row, number: "much" if number == 3 else f"{number}.5", n=30)
    tasked.params(
        tmp_path, data={"target": "number", "columns": {"target": "cell"}}, model={"task": "regress"}
    )
    with tasked.inside(tmp_path):
        tasked.ingest.main()
    [row] = tables.read(tmp_path / paths.QUARANTINE).to_pylist()
    assert (row["code"], row["row"]) == ("row-bad-target", 4)
