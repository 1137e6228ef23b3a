"""Sound models that learn on the wave, from recordings to the bundle: texts, and labels."""

import contextlib
import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import soundfile
import spoken
import tasked
import tiny_weights
import torch

from mmpipe import export, paths, predict, tables, train
from mmpipe.errors import InvalidError
from mmpipe.export import Asked
from mmpipe.features import stored
from mmpipe.model.checkpoint import load_bundle
from mmpipe.params import load
from mmpipe.preprocess import Sample
from mmpipe.serve import current
from mmpipe.stages import pretrained
from mmpipe.stages import train as train_stage

SOURCE = "data/raw/weights"
EXTRACTOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": spoken.SAMPLE_RATE}
CONFIG = {
    **tiny_weights.WAVE["config"],
    "do_stable_layer_norm": True,
    "conv_dim": [96, 96],
    "conv_kernel": [64, 8],
    "conv_stride": [20, 8],
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
}
AUDIO = {"sample_rate": spoken.SAMPLE_RATE, "n_fft": 256, "max_duration_s": 4.0}
AUDIO |= {"pretrained": SOURCE, "frozen": False}
OFF = {"audio_gain": 0.0, "audio_mel_mask": 0.0}
LOOP = {"patience": None, "lr": 0.01, "pretrained_lr": 1.0, "ema": 0.9, "batch_size": 8}


def write(root, family, label=False):
    """Recordings, weights of a family; with a label, whether one or two words are said."""
    rows = spoken.write(root / paths.RAW)
    if label:
        rows = [row | {"label": ("one", "two")[" " in row["said"]]} for row in rows]
        with (root / paths.RAW / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    tiny_weights.publish(root / SOURCE, {**CONFIG, **family}, preprocessor_config=EXTRACTOR)
    return rows


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A workspace that transcribes by wav2vec 2.0, after every stage."""
    root = tmp_path_factory.mktemp("texts")
    rows = write(root, {"layerdrop": 0.0})
    columns = {"image": None, "text": None, "audio": "audio", "target": "said"}
    tasked.params(
        root,
        data={"target": "text", "columns": columns},
        split={"group_identical_text": False, "group_identical_target": True},
        audio=AUDIO,
        model={"task": "transcribe", "image": "none", "text": "none", "audio": "pretrained", "dropout": 0.0}
        | {"output": {"order": 2, "width": 4}},
        augment=OFF | {"audio_time_mask": 0.1, "audio_stretch": 0.05},
        train=LOOP | {"epochs": 24, "label_smoothing": 0.0, "auxiliary": 0.0},
    )
    tasked.run(root)
    return root, rows


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A workspace that tells labels by HuBERT and a text, joined by attention, after `evaluate`."""
    root = tmp_path_factory.mktemp("labels")
    rows = write(root, {"model_type": "hubert", "num_hidden_layers": 2, "layerdrop": 0.3}, label=True)
    tasked.params(
        root,
        data={"columns": {"image": None, "text": "words", "audio": "audio", "target": "label"}},
        split={"group_identical_text": False, "val_fraction": 0.2},
        audio=AUDIO,
        model={"image": "none", "audio": "pretrained", "fusion": "attention", "dim": 16, "dropout": 0.0},
        augment=OFF,
        train=LOOP | {"epochs": 2, "checkpoint_steps": 2},
    )
    tasked.run(root)
    return root, rows


@contextlib.contextmanager
def hidden(place, scratch):
    """Nobody finds the folder."""
    place.rename(scratch / "hidden")
    try:
        yield
    finally:
        (scratch / "hidden").rename(place)


def test_waves_are_kept_as_the_files_have_them(texts):
    root, rows = texts
    facts = stored.facts(root / paths.features("audio"))
    assert (facts["dtype"], facts["shape"], facts["kind"]) == ("int16", [-1], "pcm")
    table = tables.read(tables.shards(root / paths.features("audio"))[0]).to_pylist()
    assert len(table) == sum(bool(row["audio"]) for row in rows)
    for row in table[:5]:
        want, _ = soundfile.read(root / paths.RAW / f"{row['id']}.wav", dtype="int16")
        assert np.array_equal(np.frombuffer(row["value"], np.int16), want)


def test_what_is_said_is_learnt_from_the_wave(texts):
    root, _ = texts
    found = json.loads((root / paths.METRICS / "train.json").read_text())
    assert found["train_uer"] < 0.7 and found["val_too_short"] == 0
    losses = (root / paths.PLOTS / "train/val_loss.tsv").read_text().split()[3::2]
    assert float(losses[-1]) < 0.6 * float(losses[0])
    assert found["multiply_adds"] > 0 and "Farthest off" in (root / paths.REPORT).read_text()


def test_transformer_layers_move_and_convolutions_over_the_wave_do_not(texts):
    root, _ = texts
    known = load_bundle(root / paths.BUNDLE).model.encoders["audio"].backbone.net.state_dict()
    config = json.loads((root / SOURCE / "config.json").read_text())
    assert known.keys() >= {"masked_spec_embed"} and config["mask_time_prob"] > 0
    given = safetensors.torch.load_file(root / SOURCE / "model.safetensors")
    fixed = [name for name in given if name.startswith("feature_extractor.")]
    moved = [name for name in given if name.startswith("encoder.layers.") and name.endswith("weight")]
    assert len(fixed) >= 3 and all(torch.equal(known[name], given[name]) for name in fixed)
    assert len(moved) >= 6 and not any(torch.equal(known[name], given[name]) for name in moved)


@pytest.mark.parametrize("name", ["texts", "labels"])
def test_the_bundle_alone_says_of_files_what_the_tables_say(request, name, tmp_path):
    root, rows = request.getfixturevalue(name)
    table = {row["id"]: row for row in tables.read(root / paths.PREDICTIONS).to_pylist()}
    shutil.copytree(root / paths.BUNDLE, tmp_path / "b")
    with hidden(root / SOURCE, tmp_path):
        predictor = predict.load(tmp_path / "b", device="cpu")
        some = [row for row in rows if row["id"] in table and row["audio"]]
        samples = [Sample(audio=root / paths.RAW / row["audio"], text=row["words"] or None) for row in some]
        answers = list(predictor.predict_many(samples))
    assert len(some) >= 8
    for row, answer in zip(some, answers, strict=True):
        said = answer.text if name == "texts" else answer.label
        assert said == table[row["id"]]["prediction"]
        assert answer.confidence == pytest.approx(table[row["id"]]["confidence"], abs=1e-4)
    assert len({table[row["id"]]["confidence"] for row in some}) > 3
    assert not {path.name for path in (tmp_path / "b").iterdir()} & {"frozen-audio.safetensors"}


def test_a_server_tries_the_model_and_it_explains(labels):
    root, rows = labels
    predictor = predict.load(root / paths.BUNDLE, device="cpu")
    assert predictor.answers([current.blank(predictor)])[0].modalities == ("audio", "text")
    row = next(row for row in rows if row["audio"] and row["words"])
    told = predictor.explain(audio=root / paths.RAW / row["audio"], text=row["words"])
    assert told.baseline + sum(told.contributions.values()) == pytest.approx(told.confidence, abs=1e-4)


class PowerCut(BaseException):
    pass


def outs(root):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / paths.TRAINED).iterdir())
    }


def test_a_training_that_dies_in_mid_epoch_ends_with_the_same_bytes(labels, tmp_path, monkeypatch):
    """Layers are dropped at random and waves stretched: all of it comes again as it would have."""
    root, _ = labels
    again = tmp_path / "again"
    shutil.copytree(root, again)
    shutil.rmtree(again / paths.TRAINED)
    monkeypatch.chdir(again)
    step, steps = train._Training._step, []

    def mortal(self, rows):
        if len(steps) == 8:
            raise PowerCut
        np.random.rand(), torch.rand(1)  # what else may have been drawn
        steps.append((self.progress.epoch, self.progress.step))
        step(self, rows)

    monkeypatch.setattr(train._Training, "_step", mortal)
    with pytest.raises(PowerCut):
        train_stage.main()
    steps.append((-1, -1))
    train_stage.main()
    assert steps[7][1] > 0 and steps[9] > (0, 0)  # it died within an epoch, and went on there
    assert outs(again) == outs(root)


def test_what_weights_and_their_wave_cannot_do_is_told_before_anything_is_computed(labels, tmp_path):
    root, _ = labels
    section = load(root / paths.PARAMS).audio
    with tasked.inside(root):
        assert pretrained.frozen("audio", section) is None
        faster = section.model_copy(update={"sample_rate": 16_000})
        with pytest.raises(InvalidError, match=r"sample_rate is 16000.*Fix: set audio.sample_rate: 8000"):
            pretrained.frozen("audio", faster)
    other = {**CONFIG, "add_adapter": True}
    tiny_weights.publish(tmp_path / "data/raw/weights", other, preprocessor_config=EXTRACTOR)
    with tasked.inside(tmp_path):
        with pytest.raises(InvalidError, match=r"train can adapt data2vec-audio, hubert.*audio.frozen: true"):
            pretrained.frozen("audio", section)
        assert pretrained.frozen("audio", section.model_copy(update={"frozen": True})) is not None


def test_a_model_that_transcribes_is_one_graph(texts, tmp_path):
    root, _ = texts
    told = export.export(predict.load(root / paths.BUNDLE, device="cpu"), tmp_path / "onnx", Asked(threads=1))
    assert [port["name"] for port in told["inputs"]] == ["audio", "audio_length", "audio_present"]
    assert told["inputs"][0]["dtype"] == "int16" and told["inputs"][0]["shape"] == ("batch", "samples")
    assert told["compared"]["largest_difference"] < 1e-4
