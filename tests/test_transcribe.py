"""Speech to text, from the loss to commands: by hand, against jiwer, and on tones that stand for letters."""

import csv
import json
from dataclasses import replace

import jiwer
import numpy as np
import pytest
import safetensors.numpy
import spoken
import tasked
import torch
from typer.testing import CliRunner

from mmpipe import (
    augment,
    batches,
    bundle,
    evaluate,
    gate,
    params,
    paths,
    runtime,
    tables,
    targets,
    train,
    transcript_scorecard,
    validation,
)
from mmpipe.cli import app
from mmpipe.corpora import speech
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.features import audio
from mmpipe.model import ctc
from mmpipe.model.checkpoint import load_bundle
from mmpipe.model.encoders import Encoded
from mmpipe.model.network import build_model
from mmpipe.predict import Refusal, Sample, load
from mmpipe.resume import States
from mmpipe.scorecard import Scores
from mmpipe.stages.job import ELSEWHERE
from mmpipe.targets import Coding
from mmpipe.tasks.task import Asked, Decoding, Held, Output, Wishes, Writing
from mmpipe.tasks.transcribe import TASK, Frames
from mmpipe.transcripts import form, recogniser, units
from mmpipe.verdict import Contender, HeldOut, Thresholds

UNITS = units.fit(["ab ba"])  # 1 = space, 2 = a, 3 = b
CODING = Coding("text", units=UNITS, texts=("ab", "ba", "ab ba", "ab ab"))
TARGET = torch.tensor([[2, 3, -1], [3, 3, -1], [2, 1, 3]])


def frames(*paths, sure=4.0):
    """Logits (N, T, 4) whose likeliest path is known; NaN past the end of each."""
    longest = max(map(len, paths))
    found = np.full((len(paths), longest, 4), np.nan)
    for row, path in enumerate(paths):
        found[row, : len(path)] = sure * np.eye(4)[list(path)]
    return found


def heard(*paths):
    """The same as a network's output."""
    return Output(
        torch.tensor(np.nan_to_num(frames(*paths))), {}, torch.tensor([len(path) for path in paths])
    )


def test_the_head_reads_every_step_of_the_recording_and_none_of_an_absent_one():
    head = TASK.head({"audio": 5, "text": 1}, 16, fused_dim=32, outputs=4, dropout=0.0)
    assert isinstance(head, Frames) and head.outputs == 4
    sequence, mask = torch.randn(2, 3, 5), torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    encoded = {"audio": Encoded(sequence, torch.zeros(2, 16), mask)}
    found = head(encoded, {"audio": torch.tensor([1.0, 1.0])})
    assert found.lengths.tolist() == [3, 2] and found.by_modality == {}
    torch.testing.assert_close(found.logits[0, 1], head.units(sequence[0, 1]))
    assert head(encoded, {"audio": torch.tensor([0.0, 1.0])}).lengths.tolist() == [0, 2]
    with pytest.raises(InvalidError, match="no train sample has a recording"):
        TASK.head({"text": 1}, 16, fused_dim=16, outputs=4, dropout=0.0)


def test_the_loss_is_ctcs_and_what_cannot_be_learnt_counts_as_nothing():
    output = heard((2, 0, 3), (3, 3), ())  # the second needs a blank in between, the third was not recorded
    [(name, found)] = TASK.losses(output, TARGET, {}, TASK.rule(TARGET, Wishes(), outputs=4)).items()
    own = ctc.loss(output.logits[:1], torch.tensor([3]), torch.tensor([[2, 3]]), torch.tensor([2]))
    assert name == "task" and float(found) == pytest.approx(float(own) / 3) and float(own) > 0
    output.logits.requires_grad_()
    TASK.losses(output, TARGET, {}, None)["task"].backward()
    assert output.logits.grad[0].any() and not output.logits.grad[1:].any()


def test_validation_counts_units():
    output = heard((2, 2, 0, 3), (3, 0, 0, 3), (2, 2, 2))
    present = {"audio": torch.tensor([True, True, True])}
    found = TASK.validate(Held(output, TARGET, present))
    assert found["val_uer"] == pytest.approx(2 / 7, abs=1e-6)  # of "a b" an a alone is left
    assert found["val_too_short"] == 0
    assert found["val_error"] == pytest.approx((2 / 7 + 1 - np.exp(-found["val_loss"])) / 2, abs=1e-5)
    short = TASK.validate(Held(heard((2, 3), (3, 3), (2, 1, 3)), TARGET, present))
    assert short["val_too_short"] == 1 and short["val_uer"] == pytest.approx(1 / 7, abs=1e-6)
    absent = {"audio": torch.tensor([True, False, True])}
    hidden = Held(heard((2, 3), (), (2, 1, 3)), TARGET, absent)
    assert TASK.validate(hidden)["val_uer"] == 0 and TASK.validate(hidden)["val_too_short"] == 0


def test_what_is_fitted_is_in_the_bundle_and_checked():
    held = Held(heard((2, 3), (3, 0, 3), (2, 1, 3)), TARGET, {"audio": torch.ones(3, dtype=torch.bool)})
    decoding = TASK.fit(held, CODING, Writing(order=3, width=4))
    assert decoding.facts["order"] == 3 and decoding.arrays["grams"].shape[1] == 3
    assert TASK.contradiction(decoding, outputs=4) == ""
    assert TASK.contradiction(decoding, outputs=5) == "3 units and a blank for 5 outputs"
    plain = TASK.fit(held, CODING, Writing(decoding="greedy"))
    assert plain.arrays == {} and TASK.contradiction(plain, outputs=4) == ""
    fixed = TASK.fit(held, CODING, Writing(language_weight=0.7, unit_bonus=-0.25))
    assert (fixed.facts["language_weight"], fixed.facts["unit_bonus"]) == (0.7, -0.25)
    nobody = Held(Output(torch.zeros(0, 4), {}), TARGET[:0], {"audio": torch.zeros(0, dtype=torch.bool)})
    unknown = TASK.fit(nobody, CODING, Writing())
    assert (unknown.facts["language_weight"], unknown.facts["unit_bonus"]) == recogniser.START
    for wrong, words in (
        ({"units": {"texts": ["a", "a"], "merges": []}}, "double"),
        ({"units": None}, "holds no units"),
        ({"language_weight": "much"}, "no number for"),
        ({"context_bonus": float("nan")}, "no number for"),
        ({"width": 0}, "no way to decode"),
        ({"decoding": "guess"}, "no way to decode"),
        ({"order": 0}, "for a language model of order 0"),
        ({"order": 4}, "no counted n-grams of order 4"),
    ):
        odd = Decoding(facts=decoding.facts | wrong, arrays=decoding.arrays)
        assert words in TASK.contradiction(odd, outputs=4), wrong
    arrays = decoding.arrays
    for grams in (arrays["grams"] + 1, arrays["grams"] - 1, arrays["grams"][:-1]):
        odd = Decoding(facts=decoding.facts, arrays=arrays | {"grams": grams.astype(np.int32)})
        assert TASK.contradiction(odd, outputs=4) != ""


def ambiguous():
    """One frame that could be an a or a b, a little more likely b, then a b."""
    found = np.full((1, 3, 4), -9.0)
    found[0, 0, [2, 3]] = 1.0, 1.2
    found[0, 1, 0] = found[0, 2, 3] = 3.0
    return found


def test_language_and_expected_words_each_turn_what_is_heard():
    reader = recogniser.Recogniser(UNITS, width=8, context_bonus=1.0)
    assert reader.read(ambiguous()[0]).text == "bb"
    assert reader.read(ambiguous()[0], "ab").text == "ab"
    held = Held(heard((2, 3)), TARGET[:1], {"audio": torch.ones(1, dtype=torch.bool)})
    decoding = TASK.fit(held, CODING, Writing(language_weight=0.3, unit_bonus=0.0))
    [said] = TASK.says({"audio": ambiguous()}, [("audio",)], decoding)
    assert said["text"] == "ab" and 0 < said["confidence"] < 1
    [bad] = TASK.says({"audio": ambiguous()}, [("audio", "text")], decoding, ["bb"])
    assert bad["text"] == "bb"  # no train text has it, but somebody expects it
    nothing = reader.read(np.full((2, 4), np.nan))
    assert nothing.text == "" and nothing.confidence == 1
    greedy = reader.greedy().read(ambiguous()[0])
    assert greedy.text == "bb" and greedy.log_prob < 0


def test_the_weight_of_the_language_model_is_the_one_with_the_fewest_errors():
    logits, model = [ambiguous()[0]] * 2, Held(heard((2, 3)), TARGET[:1], {"audio": torch.ones(1).bool()})
    found = TASK.fit(model, CODING, Writing())
    grams = recogniser.of(found.facts, found.arrays).language.model
    weight, _ = recogniser.tune(grams, UNITS, logits, ["ab", "ab"], width=8)
    assert weight > 0
    weight, _ = recogniser.tune(grams, UNITS, logits, ["bb", "bb"], width=8)
    assert weight == 0


def test_the_language_model_is_weighed_beside_the_words_that_are_expected():
    """What they say already it need not say; and without them it must."""
    held = Held(heard((2, 3)), TARGET[:1], {"audio": torch.ones(1).bool()})
    held = held._replace(output=Output(torch.from_numpy(ambiguous()).float(), {}, torch.tensor([3])))
    alone = TASK.fit(held, CODING, Writing(unit_bonus=0.0))
    beside = TASK.fit(held._replace(words=["ab"]), CODING, Writing(unit_bonus=0.0))
    useless = TASK.fit(held._replace(words=["ab"]), CODING, Writing(unit_bonus=0.0, context_bonus=0.0))
    assert alone.facts["language_weight"] > 0 == beside.facts["language_weight"]
    assert useless.facts == alone.facts | {"context_bonus": 0.0}


def scores(cells, paths, words=()):
    logits, n = frames(*paths), len(cells)
    subsets = {"audio": logits, "text": logits[:, :0], "audio+text": logits} if words else {"audio": logits}
    present = {"audio": np.array([bool(len(path)) for path in paths])}
    present |= {"text": np.ones(n, bool)} if words else {}
    target = np.full((n, 6), -1)
    for row, cell in enumerate(cells):
        target[row, : len(UNITS.encode(cell))] = UNITS.encode(cell)
    names = [f"s{row}" for row in range(n)]
    return Scores("test", names, target, np.array(names), present, subsets, 0, cells, words)


GREEDY = Decoding(facts={"units": json.loads(UNITS.to_json()), "decoding": "greedy", "width": 8, "order": 0})
GREEDY.facts["context_bonus"] = 1.0


def test_rates_are_jiwers_and_rows_are_conserved():
    cells = ["A b.", "ba", "b a", "ab", "Züb"]  # the last has letters that train lacks
    found = TASK.measure(scores(cells, [(2, 1, 3), (3, 3), (3, 1, 2, 2), (), (2, 3)]), GREEDY, Asked(100, 10))
    told, said = ["a b", "ba", "b a", "züb"], ["a b", "b", "b a", "ab"]
    assert found["wer"] == pytest.approx(jiwer.wer(told, said), abs=1e-6)
    assert found["cer"] == pytest.approx(jiwer.cer(told, said), abs=1e-6)
    assert found["wer_low"] <= found["wer"] <= found["wer_high"]
    assert (found["samples"], found["samples_left_out"], found["right"]) == (4, 1, 0.5)
    assert list(found["decoding"]) == ["greedy"] and "gains" not in found
    with pytest.raises(InvalidError, match="no test sample has a recording"):
        TASK.measure(scores(["a"], [()]), GREEDY, Asked(100, 10))
    assert TASK.measure(scores(["bb"], [(3, 3)]), GREEDY, Asked(100, 10))["too_short"] == 1


def test_what_helps_is_measured_beside_what_is_there_anyway():
    one = scores(["ab"] * 8, [(2, 0, 3)] * 8, words=["ab"] * 8)
    unclear = np.repeat(ambiguous(), 8, axis=0)
    one.logits.update({"audio": unclear, "audio+text": unclear})
    held = Held(heard((2, 3)), TARGET[:1], {"audio": torch.ones(1).bool()})
    decoding = TASK.fit(held, CODING, Writing(language_weight=0.0, unit_bonus=0.0))
    found = TASK.measure(one, decoding, Asked(100, 10))
    assert list(found["decoding"]) == [
        "greedy",
        "beam",
        "language model",
        "expected words",
        "language model + expected words",
    ]
    assert [way["wer"] for way in found["decoding"].values()] == [1, 1, 1, 0, 0]
    assert found["gains"]["expected words"]["wer"] == 1 and found["gains"]["language model"]["wer"] == 0
    assert found["subsets"]["audio"]["wer"] == 1 and found["subsets"]["audio+text"]["wer"] == 0
    assert found["subsets"]["text"] == {"samples": 0}
    words = transcript_scorecard.gains(found)
    assert words == [
        "language model does not show to change the WER: +0.000 [+0.000, +0.000]",
        "expected words lowers the WER: -1.000 [-1.000, -1.000]",
    ]
    alone = TASK.measure(scores(["ab"] * 2, [(2, 0, 3)] * 2), decoding, Asked(100, 10))
    assert list(alone["decoding"]) == ["greedy", "beam", "language model"]
    assert alone["gains"]["language model"]["beside"] == "beam"  # the search itself is none of its merit
    told = TASK.findings(found, TASK.predictions([one], decoding), decoding)
    assert {"ab"} == {item["actual"] for part in told["exhibits"] for item in part["items"]}


def judged(before, after, target, **asked):
    test = HeldOut(np.array(target, dtype=object), np.arange(len(target)).astype(str), [], "x")
    old, new = (
        Contender(name, np.array(given, dtype=object), [], 1.0, 1, name)
        for name, given in (("old", before), ("new", after))
    )
    return gate.judge(test, old, new, Thresholds(resamples=300, **asked), TASK.rules)


def test_the_gate_wants_fewer_wrong_words_and_silence_is_wrong():
    target = ["un chat noir", "un chien"] * 15
    worse, better = ["un rat noir", "un chien"] * 15, ["un chat noir", "un chien"] * 15
    found = judged(worse, better, target)
    assert found.promote and found.reasons[0].startswith("wer is better: 0.000 against 0.200")
    assert not judged(better, worse, target).promote
    assert judged(worse, better, target, metric="cer").figures["champion"]["cer"] == pytest.approx(
        2 / 20, abs=1e-6
    )
    silent = judged(better, [None, *better[1:]], target)
    assert silent.figures["challenger"]["unanswered"] == 1 and not silent.promote
    assert "new has no answer to 1 test samples, of which it counts as hearing nothing." in silent.reasons


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("w")
    rows = spoken.write(root / paths.RAW)
    columns = {"image": None, "text": "words", "audio": "audio", "target": "said"}
    tasked.params(
        root,
        data={"target": "text", "columns": columns},
        split={"group_identical_text": False, "group_identical_target": True},
        audio=spoken.AUDIO,
        text={"max_tokens": 64},
        model={"task": "transcribe", "image": "none", "text": "words", "audio": "crnn", "dropout": 0.0}
        | {"output": {"order": 3, "width": 8}},
        augment={"audio_time_mask": 0.0, "audio_mel_mask": 0.0, "audio_gain": 0.1},
        train={"epochs": 20, "patience": None, "lr": 0.01, "ema": 0.9, "label_smoothing": 0.0}
        | {"auxiliary": 0.0},
    )
    tasked.run(root)
    return root, rows


def test_what_is_said_in_tones_is_learnt_to_the_letter(workspace):
    root, rows = workspace
    found = json.loads((root / paths.METRICS / "train.json").read_text())
    assert found["train_uer"] == 0 and found["train_too_short"] == 0
    tested = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert tested["cer"] < 0.05 and tested["cer_low"] <= tested["cer"] <= tested["cer_high"]
    assert len(tested["decoding"]) == 5 and tested["gains"].keys() == {"language model", "expected words"}
    ways = tested["decoding"]
    [text] = tested["importance"]
    brought = ways["language model"]["wer"] - ways["language model + expected words"]["wer"]
    assert text["modality"] == "text" and text["shapley"] == pytest.approx(brought, abs=2e-6)
    assert text["drop_95"][0] <= text["drop"] <= text["drop_95"][1] and "single_gain" not in tested
    loaded = load_bundle(root / paths.BUNDLE)
    assert loaded.labels == [] and loaded.coding.units.decode([2, 1, 3]) == "a b"
    assert loaded.decoding.arrays["counts"].sum() > 0
    page, card = (root / paths.REPORT).read_text(), (root / paths.BUNDLE / "README.md").read_text()
    assert (
        "What each modality does for the wer" in page
        and "Farthest off" in page
        and "WER of each way to decode" in page
        and "WER" in card
    )
    spoken_ = {row["id"]: row["said"] for row in rows}
    predictions = tables.read(root / paths.PREDICTIONS).to_pylist()
    assert predictions and all(row["target"] == spoken_[row["id"]][:-1].lower() for row in predictions)
    silent = {row["id"] for row in rows if not row["audio"]}
    assert silent and not silent & {row["id"] for row in predictions}


def test_no_text_of_the_test_split_is_learnt(workspace):
    root, _ = workspace
    parts = {}
    for row in tables.read(root / paths.SPLITS).to_pylist():
        parts.setdefault(row["target"].lower(), set()).add(row["split"])
    assert all(len(of) == 1 for of in parts.values()) and len(parts) < 60


def test_raw_recordings_are_answered_as_in_the_evaluation(workspace):
    root, rows = workspace
    predictor = load(root / paths.BUNDLE, device="cpu")
    raw = {row["id"]: row for row in rows}
    for row in tables.read(root / paths.PREDICTIONS).to_pylist():
        own = raw[row["id"]]
        found = predictor.predict(audio=root / paths.RAW / own["audio"], text=own["words"] or None)
        assert found.text == row["prediction"]
        assert found.confidence == pytest.approx(row["confidence"], abs=1e-3)
    [refused] = predictor.predict_many([Sample(text="abc")])
    assert isinstance(refused, Refusal) and (refused.code, refused.what) == ("row-lacks", "has no audio")
    with pytest.raises(InvalidError, match="has no audio"):
        predictor.predict(text="abc")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no arrays", "holds no arrays"),
        (safetensors.numpy.save({"grams": np.zeros((2, 3)), "counts": np.ones(2)}), "of another type"),
        (safetensors.numpy.save({"grams": np.full((1, 3), 99, np.int32)}), "no counted n-grams"),
        (None, "arrays of nothing for a language model of order 3"),
    ],
)
def test_a_language_model_in_a_bundle_is_checked(workspace, tmp_path, data, words):
    contents = bundle.read(workspace[0] / paths.BUNDLE).files
    assert contents.pop(bundle.DECODING)
    bundle.write(tmp_path / "odd", contents | ({} if data is None else {bundle.DECODING: data}))
    with pytest.raises(VerificationError, match=words):
        load_bundle(tmp_path / "odd")


def call(*arguments):
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_drift_compares_lengths_of_what_is_said(workspace, tmp_path):
    root, _ = workspace
    spoken.write(tmp_path / "new", n=40, seed=9)
    with tasked.inside(root):
        told = call("drift", str(tmp_path / "new" / "manifest.csv"), "--champion", ".", "--json").stdout
    found = json.loads(told)
    names = {one["name"] for one in found["checks"]}
    assert {"texts, characters", "predicted texts, characters", "confidence"} <= names
    assert found["new"] > 30 and found["unknown_labels"] == {}


def test_commands_tell_texts_tables_and_the_verdict(workspace, tmp_path):
    root, rows = workspace
    with tasked.inside(root):
        one = call("predict", "--audio", "data/raw/s000.wav")
        out = tmp_path / "out.csv"
        assert call("predict", "data/raw/manifest.csv", "-o", str(out)).exit_code == 0
        verdict = json.loads(call("gate", "--champion", "models/fusion", "--json").stdout)
    assert one.stdout.startswith(rows[0]["said"][:-1].lower() + "  (from audio)")
    told = out.read_text()
    assert told.count("row-lacks") == sum(not row["audio"] for row in rows) == 3
    assert verdict["figures"]["gain"]["metric"] == "wer"
    parts = {row["id"]: row["split"] for row in tables.read(root / paths.SPLITS).to_pylist()}
    tested = [row for row in rows if parts[row["id"]] == "test"]
    lost = sum(len(row["said"].split()) for row in tested if not row["audio"])
    assert lost and verdict["figures"]["challenger"]["wer"] == pytest.approx(
        lost / sum(len(row["said"].split()) for row in tested), abs=0.05
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_real_recordings_are_learnt_by_heart(tmp_path, repository):
    """CER below 2 % by the likeliest path alone: what stands between the loss and the letters is right."""
    (tmp_path / "corpus").mkdir()
    speech.write(tmp_path / "corpus", downloads=repository / paths.DOWNLOADS)
    with (tmp_path / "corpus" / "fr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::37][:20]
    assert len(rows) == 20
    settings = {"sample_rate": 16_000, "n_fft": 400, "hop_length": 160, "n_mels": 40, "max_duration_s": 12.0}
    arrays = [
        audio.extract((tmp_path / "corpus" / row["audio"]).read_bytes(), **settings, mode="fast")
        for row in rows
    ]
    said = [row["transcript"] for row in rows]
    coding = Coding("text", units=units.fit(said), texts=tuple(said))
    data = batches.from_arrays([row["id"] for row in rows], {"audio": arrays}, {"audio": [-1, 40]})
    data = replace(data, target=torch.from_numpy(targets.encode(coding, said)))
    machine = runtime.select(precision="fp32", threads=1)
    given = params.Train(epochs=250, batch_size=20, patience=None, lr=0.01, ema=0.9)
    runtime.seed_all(0)
    network = build_model(
        modalities=["audio"],
        classes=coding.units.size,
        dim=16,
        dropout=0.0,
        n_mels=40,
        audio="crnn",
        task="transcribe",
    )
    network.fit_statistics(data)
    train.fit(
        network,
        (data, data.take(np.zeros(0, np.int64))),
        train.Settings(**given.model_dump(exclude=ELSEWHERE)),
        augmentation=augment.Settings(audio_gain=0, audio_stretch=0, audio_time_mask=0, audio_mel_mask=0),
        machine=machine,
        states=States(tmp_path, "k"),
        on_epoch=lambda _: None,
    )
    held = validation.score(network, data, machine)
    decoding = TASK.fit(held, coding, Writing(decoding="greedy"))
    outputs = evaluate.logits(network, data, ["audio"], batch_size=20)
    answers = [one["text"] for one in TASK.says(outputs, [("audio",)] * 20, decoding)]
    rate = jiwer.cer([form.normalise(text) for text in said], answers)
    assert rate < 0.02, answers
