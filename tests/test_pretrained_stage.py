"""Pretrained weights through the whole pipeline: vectors at extraction, the same from the bundle alone."""

import csv
import json
import shutil

import numpy as np
import pytest
import tiny_bundle
import tiny_families
import tiny_weights

from mmpipe import bundle, modalities, paths, predict, tables, weights
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.features import stored, text
from mmpipe.model.checkpoint import load_bundle
from mmpipe.preprocess import Sample
from mmpipe.serve import current
from mmpipe.stages import code
from mmpipe.stages import evaluate as evaluate_stage
from mmpipe.stages import extract as extract_stage
from mmpipe.stages import ingest as ingest_stage
from mmpipe.stages import pretrained as pretrained_stage
from mmpipe.stages import split as split_stage
from mmpipe.stages import tokenizer as tokenizer_stage
from mmpipe.stages import train as train_stage

WEIGHTS = {"audio": "data/raw/wave", "image": "data/raw/lite", "text": "data/raw/bert"}
PARAMS = {
    "data": {"manifests": ["data/raw/rows.csv"]},
    "split": {"near_duplicate_bits": -1, "group_identical_text": False, "val_fraction": 0.2},
    "image": {"size": 32, "pretrained": WEIGHTS["image"], "frozen": False},
    "audio": {"sample_rate": 8000, "max_duration_s": 1.0, "pretrained": WEIGHTS["audio"]},
    "text": {"max_tokens": 16, "pretrained": WEIGHTS["text"]},
    "model": {"image": "pretrained", "audio": "pretrained", "text": "pretrained", "dim": 8},
    "train": {"epochs": 2, "patience": None, "batch_size": 8, "threads": 1, "precision": "fp32", "lr": 1e-2},
    "evaluate": {"threads": 1, "bootstrap": 20},
}


def publish(root):
    """The three weights below `root/data/raw`."""
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}
    config = tiny_weights.WAVE["config"]
    tiny_weights.publish(root / WEIGHTS["audio"], config, preprocessor_config=extractor)
    tiny_weights.lite(root / WEIGHTS["image"])
    tiny_weights.text(root / WEIGHTS["text"], text.fit(tiny_bundle.WORDS, vocab_size=300, lowercase=True))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace after `train` and `evaluate`, and its raw samples by id."""
    root = tmp_path_factory.mktemp("pretrained")
    samples = tiny_bundle.raw(root / "data", n=30)
    with (root / "data/raw/rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "audio", "text", "label"])
        for number, (name, sample) in enumerate(samples.items()):
            places = [sample[m].name if m in sample else "" for m in ("image", "audio")]
            writer.writerow([name, *places, sample.get("text", ""), ("yes", "no")[number % 2]])
    publish(root)
    (root / paths.PARAMS).write_text(json.dumps(PARAMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MMPIPE_WORKERS", "1")
        for stage in (code, ingest_stage, split_stage, tokenizer_stage):
            stage.main()
        for modality in ("audio", "image", "text"):
            patch.setattr("sys.argv", ["extract", modality])
            extract_stage.main()
        train_stage.main()
        evaluate_stage.main()
    return root, samples


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace[0])
    return workspace[1]


def test_frozen_backbones_make_a_vector_a_sample_and_the_others_do_not(inside):
    facts = {m: stored.facts(paths.features(m)) for m in WEIGHTS}
    assert [facts[m]["shape"] for m in sorted(facts)] == [[16], [32, 32, 3], [16]]
    assert facts["audio"]["base"]["kind"] == "wave" and "blueprint" not in facts["image"]
    assert facts["text"]["weights_sha256"] == weights.identity(WEIGHTS["text"])


def test_the_bundle_alone_says_of_raw_samples_what_the_tables_say(inside, tmp_path):
    shutil.copytree(paths.TRAINED, tmp_path / "b")
    table = tables.read(paths.PREDICTIONS).to_pylist()
    hidden = [paths.RAW / name for name in ("wave", "lite", "bert")]
    try:
        for place in hidden:
            place.rename(tmp_path / place.name)
        predictor = predict.load(tmp_path / "b", device="cpu")
        answers = list(predictor.predict_many([Sample(**inside[row["id"]]) for row in table]))
    finally:
        for place in hidden:
            (tmp_path / place.name).rename(place)
    assert len(table) >= 8 and np.std([row["probabilities"][0] for row in table]) > 1e-3
    got = [[one.probabilities[label] for label in predictor.bundle.labels] for one in answers]
    assert np.allclose(got, [row["probabilities"] for row in table], atol=1e-4)


def test_a_server_can_try_the_model_and_explain_a_sample(inside):
    predictor = predict.load(paths.TRAINED, device="cpu")
    [tried] = predictor.answers([current.blank(predictor)])
    assert tried.modalities == ("audio", "image", "text")
    name = next(name for name, sample in inside.items() if len(sample) == 3)
    explained = predictor.explain(**inside[name])
    total = explained.baseline + sum(explained.contributions.values())
    assert total == pytest.approx(explained.confidence, abs=1e-4)


def test_the_bundle_holds_the_frozen_weights_in_files_of_their_own(inside):
    names = set(bundle.read(paths.TRAINED).files)
    assert {"frozen-audio.safetensors", "frozen-text.safetensors"} <= names
    assert "frozen-image.safetensors" not in names
    found = load_bundle(paths.TRAINED)
    assert found.config["weights"] == {
        m: {"source": source, "identity": weights.identity(source)} for m, source in WEIGHTS.items()
    }
    parameters = sum(p.numel() for net in (found.model, *found.backbones.values()) for p in net.parameters())
    metrics = json.loads((paths.METRICS / "train.json").read_text())
    assert metrics["parameters"] == parameters
    tables_only = load_bundle(paths.TRAINED, for_tables=True)
    assert tables_only.backbones == {} and metrics["multiply_adds"] > 0


def test_weights_that_are_trained_start_from_the_given_ones_and_move(inside):
    loaded = load_bundle(paths.TRAINED, for_tables=True).model.encoders["image"].backbone
    given = tiny_weights.load("image", WEIGHTS["image"]).net.conv_head.weight
    moved = (loaded.net.conv_head.weight - given).abs().max()
    assert (
        0 < moved < 0.02
    )  # two epochs at a twentieth of the learning rate; drawn anew, they would be far off


@pytest.mark.parametrize("name", ["frozen-text.safetensors", "frozen-audio.safetensors"])
def test_a_bundle_without_a_frozen_file_or_with_others_is_damaged(inside, tmp_path, name):
    contents = dict(bundle.read(paths.TRAINED).files)
    data = contents.pop(name)
    bundle.write(tmp_path / "lacking", contents)
    with pytest.raises(VerificationError, match=f"bundle-damaged .*{name} contradicts the architecture"):
        load_bundle(tmp_path / "lacking")
    bundle.write(tmp_path / "odd", {**contents, name: data, "frozen-image.safetensors": data})
    with pytest.raises(VerificationError, match=r"frozen-image\.safetensors contradicts"):
        load_bundle(tmp_path / "odd")
    other = contents["frozen-audio.safetensors" if "text" in name else "frozen-text.safetensors"]
    bundle.write(tmp_path / "swapped", {**contents, name: other})
    with pytest.raises(VerificationError, match=f"{name} holds other weights than the architecture"):
        load_bundle(tmp_path / "swapped")


def test_other_weights_run_the_stages_that_read_them(inside, tmp_path):
    before = code.fingerprints(paths.PARAMS.parent)
    assert before["extract_text"]["weights"] == {"text": weights.identity(WEIGHTS["text"])}
    assert "transformers" in before["extract_text"]["libraries"]
    assert "weights" not in before["evaluate"] and "transformers" not in before["evaluate"]["libraries"]
    config = paths.RAW / "bert/config.json"
    kept = config.read_bytes()
    try:
        config.write_bytes(kept + b"\n")
        after = code.fingerprints(paths.PARAMS.parent)
    finally:
        config.write_bytes(kept)
    changed = {stage for stage in after if after[stage] != before[stage]}
    assert changed == {"extract_text", "tokenizer", "train"}


def test_a_parameter_that_the_weights_cannot_work_with_stops_before_anything_is_computed(inside):
    params = pretrained_stage.settings("text", train_stage.load(paths.PARAMS).text)
    assert params["max_tokens"] == 16 and "pretrained" not in params
    wider = train_stage.load(paths.PARAMS).text.model_copy(update={"max_tokens": 49})
    with pytest.raises(InvalidError, match=r"text\.max_tokens is more than .* Fix: set text\.max_tokens: 48"):
        pretrained_stage.frozen("text", wider)


@pytest.fixture
def pictures(workspace, tmp_path, monkeypatch):
    """A workspace of the same samples up to the splits, of which the model sees pictures only."""
    shutil.copytree(workspace[0], tmp_path / "w", ignore=shutil.ignore_patterns(".mmpipe", "features"))
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setenv("MMPIPE_WORKERS", "1")
    monkeypatch.setattr("sys.argv", ["extract", "image"])

    def write(source, frozen, size=64):
        only = {"image": {"size": size, "pretrained": source, "frozen": frozen}}
        only["model"] = {"image": "pretrained", "audio": "none", "text": "none", "dim": 8}
        kept = {name: PARAMS[name] for name in ("data", "split", "evaluate")}
        kept["train"] = {**PARAMS["train"], "epochs": 1}
        paths.PARAMS.write_text(json.dumps({**kept, **only}))

    return write


@pytest.mark.parametrize("family", ["mobilevit", "timm"])
def test_a_network_whose_width_no_configuration_says_goes_frozen_and_unfrozen(pictures, family):
    """MobileViT's last `hidden_sizes` is not its width, and timm's MobileNet has one width in and one out."""
    if family == "timm":
        tiny_families.timm(paths.RAW / "net", "mobilenetv3_small_050")
    else:
        tiny_families.transformers(paths.RAW / "net", tiny_families.IMAGES["mobilevit"])
    width = {"timm": 1024, "mobilevit": 40}[family]
    pictures("data/raw/net", True)
    extract_stage.main()
    assert stored.facts(paths.features("image"))["shape"] == [width]
    train_stage.main()
    assert load_bundle(paths.TRAINED).backbones["image"].width == width
    pictures("data/raw/net", False)
    extract_stage.main()
    train_stage.main()
    trained = load_bundle(paths.TRAINED, for_tables=True).model.encoders["image"].backbone
    assert trained.width == width and trained.sequence_width == {"timm": 288, "mobilevit": 40}[family]


def test_pictures_of_another_side_than_a_network_takes_are_told_with_the_side(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = modalities.Image(size=64, pretrained="w")
    tiny_families.transformers(tmp_path / "w", {**tiny_weights.VIT, "image_size": [32, 32]})
    with pytest.raises(InvalidError, match=r"params w image\.size is another side .* set image\.size: 32 in"):
        pretrained_stage.frozen("image", section)
    fitting = section.model_copy(update={"size": 32})
    assert pretrained_stage.frozen("image", fitting).blueprint["width"] == 16
    tiny_families.transformers(tmp_path / "w", tiny_families.IMAGES["mobilenet_v1"])  # says 224, takes any
    assert pretrained_stage.frozen("image", section).blueprint["width"] == 51


def test_limits_that_only_the_library_knows_are_told(tmp_path, monkeypatch):
    """SigLIP's folders on the hub leave out what is its default, and GPT-2 has another name for it."""
    monkeypatch.chdir(tmp_path)
    tiny_families.transformers(tmp_path / "w", tiny_families.IMAGES["siglip"])
    config = {"model_type": "siglip", "vision_config": {"num_hidden_layers": 1}, "text_config": {}}
    tiny_weights.describe(tmp_path / "w", config=config)
    with pytest.raises(InvalidError, match=r"image\.size is another side .* Fix: set image\.size: 224 in"):
        pretrained_stage.frozen("image", modalities.Image(size=64, pretrained="w"))
    text = modalities.Text(pretrained="w", max_tokens=128)
    with pytest.raises(
        InvalidError, match=r"text\.max_tokens is more than .* Fix: set text\.max_tokens: 64 in"
    ):
        pretrained_stage.frozen("text", text)
    tiny_weights.describe(tmp_path / "w", config=tiny_families.TEXTS["gpt2"])
    with pytest.raises(InvalidError, match=r"Fix: set text\.max_tokens: 32 in"):
        pretrained_stage.frozen("text", text)
