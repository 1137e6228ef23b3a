import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, VerificationError
from mmpipe.files import canonical_json, sha256
from mmpipe.model import checkpoint
from mmpipe.model.network import build_model

ARCHITECTURE = {
    "modalities": ["image", "text"],
    "classes": 2,
    "dim": 8,
    "dropout": 0.5,
    "vocab_size": 20,
}
CONFIG = {
    "labels": ["no", "yes"],
    "task": "classify",
    "temperature": 2.0,
    "preprocessing": {"image": {"size": 16}, "text": {"max_tokens": 4}},
    "features": {
        "image": {"dtype": "uint8", "shape": [16, 16, 3]},
        "text": {"dtype": "int32", "shape": [-1]},
    },
}


def write(folder, tokenizer='{"model": 1}\n'):
    torch.manual_seed(0)
    model = build_model(**ARCHITECTURE)
    digest = checkpoint.save_bundle(
        folder,
        model,
        config=CONFIG,
        architecture=ARCHITECTURE,
        metrics={"val_loss": 0.5},
        tokenizer=tokenizer,
    )
    return model, digest


def logits(bundle_or_model):
    arrays = {"image": [np.full((16, 16, 3), 9, np.uint8), None], "text": [None, np.array([3, 4], np.int32)]}
    shapes = {m: CONFIG["features"][m]["shape"] for m in arrays}
    data = checkpoint.batches.from_arrays(["a", "b"], arrays, shapes)
    with torch.no_grad():
        return bundle_or_model(data.batch(np.arange(2))).logits


def test_a_bundle_comes_back_as_it_was(tmp_path):
    model, digest = write(tmp_path / "b")
    bundle = checkpoint.load_bundle(tmp_path / "b")
    assert torch.equal(logits(bundle.model), logits(model.eval()))
    assert not bundle.model.training
    assert (bundle.labels, bundle.temperature, bundle.digest) == (["no", "yes"], 2.0, digest)
    assert (bundle.tokenizer, bundle.metrics) == ('{"model": 1}\n', {"val_loss": 0.5})
    assert bundle.preprocessing == CONFIG["preprocessing"]


def test_a_bundle_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    write(tmp_path / "b")
    write(tmp_path / "b", tokenizer='{"model": 2}\n')
    assert checkpoint.load_bundle(tmp_path / "b").tokenizer == '{"model": 2}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_killed_while_it_is_written_the_old_one_stays_and_the_next_tidies_up(tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_checkpoint
from mmpipe import files
write = files.write_bytes
def last(path, data):
    write(path, data)
    if path.name == "manifest.json":
        os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes = last
test_checkpoint.write(Path({str(tmp_path / "b")!r}), tokenizer="new")
"""
    write(tmp_path / "b")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert checkpoint.load_bundle(tmp_path / "b").tokenizer == '{"model": 1}\n'
    assert len(list(tmp_path.iterdir())) == 2
    write(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "a")[1] == write(tmp_path / "b")[1]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["config.json", "manifest.json", "metrics.json", "model.safetensors", "tokenizer.json"]
)
def test_one_flipped_bit_anywhere_is_seen_and_the_file_named(tmp_path, name):
    write(tmp_path / "b")
    path = tmp_path / "b" / name
    good = path.read_bytes()
    places = range(len(good)) if len(good) < 300 else np.linspace(0, len(good) - 1, 40).astype(int)
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(bad))
        with pytest.raises(VerificationError, match="bundle-damaged") as caught:
            checkpoint.load_bundle(tmp_path / "b")
        assert name in str(caught.value) or name == "manifest.json"
    path.write_bytes(good[:-1])
    with pytest.raises(VerificationError, match="bundle-damaged"):
        checkpoint.load_bundle(tmp_path / "b")


def test_a_missing_file_an_extra_file_and_no_bundle(tmp_path):
    write(tmp_path / "b")
    (tmp_path / "b" / "more.txt").write_text("x")
    with pytest.raises(VerificationError, match=r"more\.txt is not in the manifest"):
        checkpoint.load_bundle(tmp_path / "b")
    (tmp_path / "b" / "more.txt").unlink()
    (tmp_path / "b" / "metrics.json").unlink()
    with pytest.raises(VerificationError, match=r"metrics\.json is missing"):
        checkpoint.load_bundle(tmp_path / "b")
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(NotFoundError, match="bundle-missing"):
        checkpoint.load_bundle(tmp_path / "b")


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".bin", ".npy"])
def test_a_pickle_is_refused_before_it_is_opened(tmp_path, suffix):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("was unpickled",))

    write(tmp_path / "b")
    (tmp_path / "b" / f"model{suffix}").write_bytes(pickle.dumps(Boom()))
    for place in (tmp_path / "b", tmp_path / "b" / f"model{suffix}"):
        with pytest.raises(InvalidError, match="refused"):
            checkpoint.load_bundle(place)


def forge(folder, name, data):
    """Change a file and make every hash right again: what a hostile sender could do."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for entry in manifest["files"]:
        if entry["path"] == name:
            entry.update(size=len(data), sha256=sha256(data))
    manifest["bundle_sha256"] = sha256(canonical_json(manifest["files"]).encode())
    (folder / "manifest.json").write_text(canonical_json(manifest))


def header(text, body=b"\0" * 8):
    return len(text).to_bytes(8, "little") + text + body


ENTRY = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "data",
    [
        header(b"{" + ENTRY + b"," + ENTRY + b"}"),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'),
        header(b'{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}', b"\0" * 16),
        (1 << 60).to_bytes(8, "little") + b"{}",
        save({"other": torch.zeros(2)}),
        pickle.dumps({"weights": 1}),
        b"",
    ],
    ids=["duplicate key", "hole", "overflow", "huge header", "other weights", "pickle", "empty"],
)
def test_crafted_weights_with_true_hashes_are_refused(tmp_path, data):
    write(tmp_path / "b")
    forge(tmp_path / "b", "model.safetensors", data)
    with pytest.raises(VerificationError, match="bundle-damaged"):
        checkpoint.load_bundle(tmp_path / "b")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "model.pt", "deep/model"])
def test_a_manifest_that_names_other_files_is_refused(tmp_path, path):
    write(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_bytes())
    manifest["files"].append({"path": path, "size": 0, "sha256": sha256(b"")})
    manifest["bundle_sha256"] = sha256(canonical_json(manifest["files"]).encode())
    (tmp_path / "b" / "manifest.json").write_text(canonical_json(manifest))
    with pytest.raises(VerificationError):
        checkpoint.load_bundle(tmp_path / "b")


def test_a_config_of_another_format_or_architecture_is_refused(tmp_path):
    write(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_bytes())
    forge(tmp_path / "b", "config.json", canonical_json({**config, "format": 99}).encode())
    with pytest.raises(InvalidError, match="format 99"):
        checkpoint.load_bundle(tmp_path / "b")
    wider = {**config, "architecture": {**config["architecture"], "dim": 16}}
    forge(tmp_path / "b", "config.json", canonical_json(wider).encode())
    with pytest.raises(VerificationError, match="other weights"):
        checkpoint.load_bundle(tmp_path / "b")
    for broken in ({"format": 1}, {**config, "architecture": {"surprise": 1}}, {**config, "labels": 3}):
        forge(tmp_path / "b", "config.json", canonical_json(broken).encode())
        with pytest.raises(MmpipeError, match="bundle-damaged"):
            checkpoint.load_bundle(tmp_path / "b")


def without(tree, *keys):
    """A copy of nested dicts that lacks the value at `keys`."""
    if len(keys) == 1:
        return {key: value for key, value in tree.items() if key != keys[0]}
    return {**tree, keys[0]: without(tree[keys[0]], *keys[1:])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: {**config, "labels": ["no"]}, "1 labels for 2 classes"),
        (lambda config: {**config, "labels": ["no", "no"]}, "1 labels for 2 classes"),
        (lambda config: without(config, "features", "text"), r"text without features\.text"),
        (lambda config: without(config, "preprocessing", "image"), r"image without preprocessing\.image"),
        (lambda config: without(config, "features", "image", "shape"), r"features\.image\.shape: Field req"),
        (
            lambda config: {**config, "features": {**config["features"], "image": {"shape": [-1, 8]}}},
            r"features\.image of shape \[-1, 8\]",
        ),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(tmp_path, change, words):
    write(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_bytes())
    forge(tmp_path / "b", "config.json", canonical_json(change(config)).encode())
    with pytest.raises(VerificationError, match=f"bundle-damaged .*config.json .*{words}"):
        checkpoint.load_bundle(tmp_path / "b")


def test_a_tokenizer_is_there_if_and_only_if_the_model_reads_text(tmp_path):
    write(tmp_path / "b", tokenizer=None)
    with pytest.raises(VerificationError, match=r"no tokenizer\.json for a model of image, text"):
        checkpoint.load_bundle(tmp_path / "b")
    one = {"modalities": ["image"], "classes": 2, "dim": 8, "dropout": 0.5}
    checkpoint.save_bundle(
        tmp_path / "b", build_model(**one), config=CONFIG, architecture=one, metrics={}, tokenizer="{}"
    )
    with pytest.raises(VerificationError, match=r"a tokenizer\.json for a model of image"):
        checkpoint.load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fusion": "sum"}, "no fusion is called 'sum'"),
        ({"fusion": "attention", "heads": 3}, "3 attention heads for 8 dimensions"),
        ({"fusion": "lowrank", "rank": 0}, "architecture.rank"),
        ({"fusion": "gated"}, "other weights than the architecture"),
        ({"fusion": "average"}, "other weights than the architecture"),
    ],
)
def test_a_fusion_that_the_weights_are_not_of_is_refused(tmp_path, change, words):
    write(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_bytes())
    config["architecture"] |= change
    forge(tmp_path / "b", "config.json", canonical_json(config).encode())
    with pytest.raises(VerificationError, match=f"bundle-damaged .*{words}"):
        checkpoint.load_bundle(tmp_path / "b")


def test_mel_bands_are_the_same_everywhere(tmp_path):
    one = {"modalities": ["audio"], "classes": 2, "dim": 8, "dropout": 0.5, "n_mels": 8}
    config = {**CONFIG, "preprocessing": {"audio": {}}, "features": {"audio": {"shape": [-1, 9]}}}
    checkpoint.save_bundle(
        tmp_path / "b", build_model(**one), config=config, architecture=one, metrics={}, tokenizer=None
    )
    with pytest.raises(VerificationError, match=r"shape \[-1, 9\] for 8 values a frame"):
        checkpoint.load_bundle(tmp_path / "b")
