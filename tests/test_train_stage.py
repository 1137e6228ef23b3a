"""The stage `train`: what it writes, what it says of its origin, and that a kill costs nothing."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from importlib import metadata

import pytest
import tiny

from mmpipe import paths
from mmpipe.errors import InvalidError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.params import Params
from mmpipe.stages import train as train_stage


def stage(root):
    command = [sys.executable, "-m", "mmpipe.stages.train"]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outs(root):
    """sha256 of each file that the stage promises to make."""
    places = [paths.TRAINED, paths.METRICS, paths.PLOTS]
    found = {
        p: hashlib.sha256(p.read_bytes()).hexdigest() for f in places for p in sorted((root / f).rglob("*.*"))
    }
    return {str(path.relative_to(root)): digest for path, digest in found.items()}


def workspace(root):
    root.mkdir()
    tiny.write(root, n=60)
    tiny.tokenizer(root)
    settings = {"epochs": 8, "batch_size": 6, "patience": 8, "threads": 1, "checkpoint_steps": 3}
    (root / paths.PARAMS).write_text(json.dumps({"train": settings, "model": {"dim": 8}}))
    return root


def test_the_stage_in_two_places_makes_the_same_files_and_no_others(tmp_path, monkeypatch, capsys):
    made = []
    for name in ("one", "two"):
        root = workspace(tmp_path / name)
        before = {path for path in root.rglob("*") if path.is_file()}
        monkeypatch.chdir(root)
        train_stage.main()
        assert capsys.readouterr().out == "train: 36 train, 12 val, 0 left out\n"
        made.append(outs(root))
        private = {".mmpipe", "logs"}
        new = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p not in before}
        assert {path for path in new if path.split("/")[0] not in private} == made[-1].keys()
    assert made[0] == made[1]
    curves = {"learning_rate", "train_loss", "val_accuracy", "val_loss", "val_loss_calibrated"}
    bundle = {"config.json", "manifest.json", "metrics.json", "model.safetensors", "tokenizer.json"}
    wanted = {f"plots/train/{name}.tsv" for name in curves} | {f"data/trained/{name}" for name in bundle}
    assert made[0].keys() == wanted | {"metrics/train.json"}
    assert (tmp_path / "one" / paths.PLOTS / "train" / "val_loss.tsv").read_text().count("\n") == 9
    assert load_bundle(tmp_path / "two" / paths.TRAINED).labels == tiny.LABELS
    assert list((tmp_path / "one" / paths.TENSORBOARD).rglob("events.out.tfevents.*"))


def test_encoders_of_modalities_that_no_train_sample_has_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path / "w"))
    shutil.rmtree(paths.features("audio"))
    with pytest.raises(InvalidError, match=r"split-too-few .* has no train sample with audio, for which"):
        train_stage._data(tiny.CODING, ["audio"])


def other_version(site, name, version):
    """A folder for sys.path in which a distribution has another version."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(site)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_bundle_tells_its_decoders_and_they_alone_train_nothing_anew(tmp_path, monkeypatch, mode):
    found, keys = [], []
    for name in ("one", "two"):
        root = workspace(tmp_path / name)
        params = json.loads((root / paths.PARAMS).read_text())
        params["train"]["epochs"] = 1
        (root / paths.PARAMS).write_text(json.dumps({**params, "audio": {"mode": mode}}))
        monkeypatch.chdir(root)
        train_stage.main()
        found.append(load_bundle(paths.TRAINED).config["libraries"])
        keys.append([path.name for path in paths.TENSORBOARD.iterdir()])
        site = other_version(tmp_path / f"site-{name}", "opencv-python", "9.9")
        monkeypatch.setattr(sys, "path", [site, *sys.path])
    sounds = {"soundfile", "torchaudio" if mode == "exact" else "soxr"}
    assert found[0].keys() == {"mmpipe", *train_stage.LIBRARIES, "opencv", *sounds}
    assert found[1] == {**found[0], "opencv": "9.9"}
    assert found[0]["soundfile"] == metadata.version("soundfile")
    assert keys[0] == keys[1]


@pytest.mark.parametrize("distribution", train_stage.DECODERS["opencv"])
def test_any_distribution_of_opencv_is_opencv(tmp_path, monkeypatch, distribution):
    other = other_version(tmp_path, distribution, "9.9")
    monkeypatch.setattr(sys, "path", [other])
    assert train_stage._decoders(Params(), ["image", "text"]) == {"opencv": "9.9"}


@pytest.mark.slow
def test_the_stage_killed_and_terminated_in_the_middle_ends_with_the_same_bytes(tmp_path):
    whole = workspace(tmp_path / "whole")
    output, errors = stage(whole).communicate()
    assert output.startswith("train: 36 train, 12 val"), errors
    cut = workspace(tmp_path / "cut")
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = stage(cut)
        for _ in range(random.randint(1, 3)):
            process.stderr.readline()
        os.kill(process.pid, number)
        errors = process.communicate()[1]
        assert process.returncode == (-9 if number == signal.SIGKILL else 143), errors
        assert not (cut / paths.TRAINED).exists()
    assert "goes on from here" in errors
    process = stage(cut)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert outs(cut) == outs(whole)
    assert not any((cut / paths.CHECKPOINTS).iterdir())
