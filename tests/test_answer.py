"""Answers in words: loss and figures by hand, the gate, and a workspace from dialogues to predictions."""

import json
import math
from dataclasses import replace

import documented
import numpy as np
import pyarrow as pa
import pytest
import serving
import squares
import tasked
import torch
from typer.testing import CliRunner

from mmpipe import answer_scorecard, gate, paths, tables
from mmpipe.answers import turns
from mmpipe.cli import app
from mmpipe.gate import Contender, HeldOut, Thresholds
from mmpipe.model import writer
from mmpipe.model.checkpoint import load_bundle
from mmpipe.model.decoder import END
from mmpipe.model.writer import NONE
from mmpipe.predict import Sample, load
from mmpipe.scorecard import Scores
from mmpipe.targets import Coding
from mmpipe.tasks.answer import TASK
from mmpipe.tasks.task import Decoding, Held, Output, Writing
from mmpipe.transcripts.units import Units

UNITS = Units((" red", " light", " blue", " bl", "ue"), ((" bl", "ue"),))
DECODING = Decoding(facts={"units": json.loads(UNITS.to_json())})


def told(**chances):
    """Logits (B, 3, 7) in which every token but the start is as likely as any other: 1 in 6."""
    logits = torch.zeros(2, 3, 7)
    for place, log in chances.items():
        row, step, token = (int(number) for number in place.split("_")[1:])
        logits[row, step, token] = log
    return logits


def test_the_loss_is_that_of_every_token_and_end_by_hand():
    """ "light blue" and "red": five tokens with 1/6 each, but the first, which has 5 of 10 parts."""
    target = torch.tensor([[2, 3], [1, -1]])
    logits = told(at_0_0_3=math.log(5))
    logits[:, :, 1] = 50.0  # nothing starts twice
    found = TASK.losses(Output(logits, {}), target, {}, None)
    assert list(found) == ["task"]
    assert float(found["task"]) == pytest.approx((math.log(2) + 4 * math.log(6)) / 5)
    logits[1, 2] = 9.0 * torch.arange(7)  # past the end of the second
    assert float(TASK.losses(Output(logits, {}), target, {}, None)["task"]) == pytest.approx(
        (math.log(2) + 4 * math.log(6)) / 5
    )


def validated(logits, target):
    told = writer.judged(logits, writer.tokens(target, 2)[0])
    return TASK.validate(Held(Output(told, {}), target, {}))


def test_validation_counts_answers_that_greedy_search_would_write():
    target = torch.tensor([[2, 3], [1, -1]])
    good = told(at_0_0_3=3.0, at_0_1_4=3.0, at_0_2_0=3.0, at_1_0_2=3.0, at_1_1_0=3.0)
    found = validated(good, target)
    assert found["val_exact_match"] == 1 and found["val_loss"] == pytest.approx(
        math.log(1 + 5 / math.e**3), abs=1e-6
    )
    assert TASK.chooses in found
    good[0, 2, END] = -1.0  # it would go on
    assert validated(good, target)["val_exact_match"] == 0.5


def test_answers_of_the_same_words_are_one_and_those_that_are_none_are_left_out():
    """blue as one piece, 0.5, and as two, 0.2; red 0.25."""
    rows = [[math.log(0.5), 3, 0], [math.log(0.25), 1, 0], [math.log(0.2), 4, 5], [NONE, 0, 0]]
    [found] = TASK.says({"text": np.array([rows])}, [("text",)], DECODING)
    assert found["answer"] == "blue" and found["confidence"] == pytest.approx(0.7)
    assert found["alternatives"] == pytest.approx({"blue": 0.7, "red": 0.25})
    used = {"modalities": ("text",), "model": "m", "bundle_sha256": "0"}
    prediction = TASK.answer(**found, **used)
    assert TASK.lines(prediction) == ["blue", "   70.0%  blue", "   25.0%  red"]
    assert TASK.cells(prediction) == {"prediction": "blue", "confidence": pytest.approx(0.7)}
    [silent] = TASK.says({"text": np.array([[[0.0, 0, 0]]])}, [("text",)], DECODING)
    assert silent["answer"] == "" and TASK.lines(TASK.answer(**silent, **used))[0] == "(no word)"


def test_a_bundles_facts_are_checked():
    held = Held(Output(torch.zeros(0, 3), {}), torch.zeros(0, 2).long(), {})
    decoding = TASK.fit(held, Coding("text", units=UNITS), Writing())
    assert decoding.facts == DECODING.facts and TASK.contradiction(decoding, outputs=6) == ""
    assert TASK.contradiction(decoding, outputs=5) == "6 units for 5 outputs"
    assert "no units" in TASK.contradiction(Decoding(), outputs=6)
    labelled = Decoding(["red"], facts=DECODING.facts)
    assert TASK.contradiction(labelled, outputs=6) == "1 labels for answers in words"


WANTED = ["red", "light blue", "red", "Blue!"]
SAID = {"image": ["red", "red", "red", "red"], "text": ["blue"] * 4}
SAID["image+text"] = ["red", "blue", "light red", "blue"]


def scores():
    ids = [f"s{n}" for n in range(4)]
    here = {m: np.ones(4, bool) for m in ("image", "text")}
    return Scores("test", ids, np.zeros((4, 2)), np.array(ids), here, {}, 0, cells=WANTED)


def test_figures_by_hand():
    """Exact: 1, 0, 0, 1; F1: 1, 2/3, 2/3, 1; of 5 words 4 are right and there are no two in a row."""
    normal = ["red", "light blue", "red", "blue"]
    found = answer_scorecard.measure(scores(), SAID, normal, resamples=200)
    assert (found["exact_match"], found["token_f1"]) == (0.5, pytest.approx(5 / 6, abs=1e-6))
    assert found["bleu"] == pytest.approx(math.sqrt(4 / 5 * 0.5), abs=1e-6)  # one pair of words: smoothed
    assert found["exact_match_low"] <= 0.5 <= found["exact_match_high"]
    assert found["subsets"]["image"]["exact_match"] == 0.5 and found["fusion_gain"]["over"] == "image"
    assert found["fusion_gain"]["exact_match"] == 0
    assert found["per_answer"] == [
        {"answer": "red", "exact_match": 0.5, "samples": 2},
        {"answer": "blue", "exact_match": 1.0, "samples": 1},
        {"answer": "light blue", "exact_match": 0.0, "samples": 1},
    ]
    assert "exact match 0.500" in TASK.summary(found) and "cannot be told from its best" in TASK.summary(
        found
    )


def test_predictions_have_the_true_answers_in_the_form_in_which_they_are_learnt():
    """So that who compares cells, as the flips between two versions do, finds the right ones right."""
    rows = np.array([[[math.log(0.9), unit, 0]] for unit in (1, 3, 1, 3)])
    found = TASK.predictions([replace(scores(), logits={"image+text": rows})], DECODING).to_pylist()
    assert [(row["prediction"], row["target"]) for row in found] == [
        ("red", "red"),
        ("blue", "light blue"),
        ("red", "red"),
        ("blue", "blue"),
    ]
    assert [row["confidence"] for row in found] == pytest.approx([0.9] * 4)


def judged(before, after, wanted, **asked):
    truth, _ = TASK.truth([{"target": cell} for cell in wanted], [])
    test = HeldOut(truth, np.arange(len(wanted)).astype(str), [], "x")
    used = {"modalities": (), "model": "", "bundle_sha256": "", "confidence": 1.0, "alternatives": {}}

    def contender(name, said):
        answers = TASK.given([one and TASK.answer(answer=one, **used) for one in said], [])
        return Contender(name, answers, [], 1.0, 1, name)

    old, new = contender("old", before), contender("new", after)
    return gate.judge(test, old, new, Thresholds(resamples=300, **asked), TASK.rules)


def test_the_gate_wants_more_exact_matches():
    wanted = ["Red!", "light blue", "blue", "red"] * 10
    before, after = ["red", "blue", "red", "no"] * 10, ["red", "light blue", "blue", None] * 10
    found = judged(before, after, wanted)
    assert found.promote and found.figures["gain"]["metric"] == "exact_match"
    assert [found.figures[who]["exact_match"] for who in ("champion", "challenger")] == [0.25, 0.75]
    assert found.figures["challenger"]["unanswered"] == 10
    assert "new has no answer to 10 test samples, which count as wrong for it." in found.reasons
    assert not judged(after, before, wanted).promote
    assert judged(before, after, wanted, metric="token_f1").figures["gain"]["metric"] == "token_f1"
    assert 0 < judged(before, after, wanted, metric="bleu").figures["champion"]["bleu"] < 1


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("w")
    rows = squares.write(root)
    squares.params(root)
    tasked.run(root)
    return root, rows


@pytest.fixture(scope="module")
def predictor(workspace):
    return load(workspace[0] / paths.BUNDLE, device="cpu")


def sample(root, row, topic=None):
    """The raw sample; `topic`: of another dialogue about the same picture."""
    before = row["history"] if topic is None else [[row["history"][0][0], topic]]
    return {"image": root / paths.RAW / row["image"], "text": turns.join(before, row["text"])}


def test_what_was_learnt_is_known_and_the_turn_before_the_question_decides(workspace, predictor):
    root, rows = workspace
    known = [row for row in rows if row["split"] == "train"]
    answers = predictor.predict_many(Sample(**sample(root, row)) for row in known)
    assert [one.answer for one in answers] == [row["answer"] for row in known]
    for row in known:
        color = row["answer"] in squares.COLORS
        other = predictor.predict(**sample(root, row, squares.TOPICS["size" if color else "color"]))
        assert other.answer in (squares.SIZES if color else squares.COLORS)


def test_the_whole_way(workspace):
    root, rows = workspace
    bundle = load_bundle(root / paths.BUNDLE)
    assert bundle.labels == [] and bundle.config["architecture"]["writer"]["search"] == "beam"
    found = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert {"exact_match", "exact_match_low", "token_f1_high", "bleu_low", "per_answer"} <= found.keys()
    matters = {one["modality"]: one for one in found["importance"]}
    total = sum(one["shapley"] for one in matters.values())
    assert 0 <= found["exact_match"] - total <= 1  # of a model that is shown nothing
    assert matters["text"]["figure"] == "exact_match" and matters["text"]["drop"] > 0.2
    assert matters["text"]["drop_95"][0] <= matters["text"]["drop"] and found["single_gain"]["p"] <= 1
    page, card = (root / paths.REPORT).read_text(), (root / paths.BUNDLE / "README.md").read_text()
    assert "Exact match" in page and "BLEU" in page and "BLEU" in card
    cells = {row["id"]: row["answer"] for row in rows}
    predictions = tables.read(root / paths.PREDICTIONS).to_pylist()
    assert predictions and all(row["target"] == cells[row["id"]] for row in predictions)
    right = [row["prediction"] == row["target"] for row in predictions if row["split"] == "test"]
    assert found["exact_match"] == pytest.approx(np.mean(right), abs=1e-6)
    assert (root / paths.PLOTS / "confusion.csv").read_text().count("\n") == 1 + len(right)


def test_raw_samples_are_answered_as_in_the_evaluation(workspace, predictor):
    root, rows = workspace
    raw = {row["id"]: row for row in rows}
    for row in tables.read(root / paths.PREDICTIONS).to_pylist():
        found = predictor.predict(**sample(root, raw[row["id"]]))
        assert found.answer == row["prediction"]
        assert found.confidence == pytest.approx(row["confidence"], abs=1e-4)


def call(*arguments):
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_commands_print_the_answer_tables_and_the_verdict(workspace, tmp_path):
    root, rows = workspace
    row = next(row for row in rows if row["split"] == "train" and row["answer"] == "light green")
    picture, history = str(root / paths.RAW / row["image"]), json.dumps(row["history"])
    asked = ["predict", "--image", picture, "--text", row["text"], "--history", history]
    out = tmp_path / "out.jsonl"
    with tasked.inside(root):
        one, as_json = call(*asked), json.loads(call(*asked, "--json").stdout)
        assert call("predict", "data/raw/manifest.jsonl", "-o", str(out)).exit_code == 0
        verdict = json.loads(call("gate", "--champion", "models/fusion", "--json").stdout)
        counted = json.loads(call("samples", "--json").stdout)
        explained = call(*asked, "--explain")
        bad = call("predict", "--text", "what is it?", "--history", "[1]")
        lonely = call("predict", "--image", picture, "--history", history)
    assert one.stdout.splitlines()[0] == "light green  (from image+text)"
    assert as_json["answer"] == "light green" and len(as_json["alternatives"]) > 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    answers = {row["id"]: row["answer"] for row in rows if row["split"] == "train"}
    assert {line["id"]: line["prediction"] for line in lines if line["id"] in answers} == answers
    assert verdict["figures"]["gain"]["metric"] == "exact_match"
    assert counted["rows"] == len(rows)
    assert explained.exit_code == 2 and "has nothing to explain" in explained.stderr
    assert bad.exit_code == 2 and "--history has earlier turns that are no list" in bad.stderr
    assert lonely.exit_code == 2 and "--history needs --text" in lonely.stderr


def test_an_export_answers_as_the_bundle_does(workspace, repository, tmp_path):
    root, rows = workspace
    exact = json.loads((root / paths.METRICS / "evaluate.json").read_text())["exact_match"]
    sizes = []
    with tasked.inside(root):
        for kind in ("onnx", "int8"):
            asked = ["--format", kind, "--into", str(tmp_path / "models" / kind), "--threads", "1", "--json"]
            told = json.loads(call("export", *asked).stdout)
            assert told["figure"]["name"] == "exact_match" and told["figure"]["bundle"] == exact
            sizes.append(told["bytes"]["file"])
            if kind == "onnx":
                assert told["compared"]["agreement"] == 1 and told["compared"]["largest_difference"] < 1e-3
    assert sizes[1] < 0.6 * sizes[0] and told["compared"]["largest_difference"] > 1e-4
    predictor, code = load(root / paths.BUNDLE, device="cpu"), documented.code(repository)
    head = predictor.bundle.model.head
    head.design = head.design.model_copy(update={"search": "greedy"})
    known = {row["answer"]: sample(root, row) for row in rows if row["split"] == "train"}
    own = [
        code["answer"]
        .replace('"cat.png"', repr(str(one["image"])))
        .replace('"one or two?"', repr(one["text"]))
        for one in known.values()
    ]
    said = documented.printed(tmp_path, code["first"], *own).splitlines()
    assert said == [predictor.predict(**one).answer for one in known.values()]
    assert said == list(known) and any(" " in answer for answer in said) and len(said) > 3


def test_the_server_answers_too_by_the_turn_before_the_question(workspace, predictor):
    root, rows = workspace
    row = next(row for row in rows if row["split"] == "train")
    picture = {"image": root / paths.RAW / row["image"], "text": row["text"]}
    with serving.running(root / paths.BUNDLE) as server:
        found = server.predict(sample(root, row)).json()
        told = [
            server.predict(picture, history=json.dumps([[row["history"][0][0], topic]])).json()["answer"]
            for topic in squares.TOPICS.values()
        ]
    wanted = predictor.predict(**sample(root, row))
    assert found["answer"] == wanted.answer and found["alternatives"].keys() == wanted.alternatives.keys()
    assert told[0] in squares.COLORS and told[1] in squares.SIZES and row["answer"] in told


def test_what_the_report_shows_are_answers_right_and_wrong():
    kinds = [
        ("id", pa.string()),
        ("split", pa.string()),
        ("target", pa.string()),
        ("prediction", pa.string()),
    ]
    schema = pa.schema([*kinds, ("confidence", pa.float32())])
    columns = [
        ["a", "b", "c"],
        ["test"] * 3,
        ["Red!", "blue", "red"],
        ["red", "red", "blue"],
        [0.5, 0.9, 0.8],
    ]
    found = answer_scorecard.measure(scores(), SAID, WANTED, resamples=10)
    shown = TASK.findings(found, pa.table([pa.array(c) for c in columns], schema), DECODING)
    wrong, right = ([item["id"] for item in part["items"]] for part in shown["exhibits"])
    assert (wrong, right) == (["b", "c"], ["a"])
    assert [one["label"] for one in shown["headline"]] == ["Exact match", "Token F1", "BLEU"]
