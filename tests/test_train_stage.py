"""The stage `train`: what it writes, what it says of its origin, and that a kill costs nothing."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from importlib import metadata

import pytest
import tiny
import torch

from mmpipe import paths, schema, stacking, tables, train, validation
from mmpipe.errors import InvalidError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.model.fusions.opinions import Stacking
from mmpipe.params import Params
from mmpipe.stages import evaluate as evaluate_stage
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


def workspace(root, **sections):
    root.mkdir()
    tiny.write(root, n=60)
    tiny.tokenizer(root)
    settings = {"epochs": 8, "batch_size": 6, "patience": 8, "threads": 1, "checkpoint_steps": 3}
    settings |= sections.get("train", {})
    model = {"dim": 8} | sections.get("model", {})
    (root / paths.PARAMS).write_text(json.dumps({**sections, "train": settings, "model": model}))
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


def stacked(root):
    return workspace(root, model={"fusion": "stacking"}, train={"epochs": 2, "stacking_folds": 3})


class PowerCut(BaseException):
    pass


def test_a_stacking_training_goes_on_in_the_fold_where_it_died(tmp_path, monkeypatch, capsys):
    """12 steps of the model that is kept, then 8 for each of three folds of 24 samples: dead in each part."""
    monkeypatch.chdir(stacked(tmp_path / "whole"))
    train_stage.main()
    said = capsys.readouterr().err
    assert said.count("epoch") == 4 * 2 and "fold 3 of 3, epoch 2/2" in said
    step, steps, deaths = train._Training._step, [], [5, 20, 33]

    def mortal(self, rows):
        if deaths and len(steps) == deaths[0]:
            raise PowerCut
        steps.append(rows)
        step(self, rows)

    monkeypatch.chdir(stacked(tmp_path / "cut"))
    monkeypatch.setattr(train._Training, "_step", mortal)
    while deaths:
        with pytest.raises(PowerCut):
            train_stage.main()
        del deaths[0]
    train_stage.main()
    assert 36 < len(steps) <= 36 + 3 * 2  # a state every third step: at most two are done again
    assert outs(tmp_path / "cut") == outs(tmp_path / "whole")
    assert not any(paths.CHECKPOINTS.iterdir())
    found = json.loads((paths.METRICS / "train.json").read_text())
    assert found["stacking"]["stacked_loss"] < found["stacking"]["mean_loss"] and "trust" not in found


def test_groups_that_do_not_fill_the_folds_are_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(stacked(tmp_path / "w"))
    rows = [row | {"group": "all"} for row in tables.read(paths.SPLITS, schema.SPLIT).to_pylist()]
    tables.write_rows(paths.SPLITS, rows, schema.SPLIT)
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("was trained"))
    with pytest.raises(InvalidError, match="split-too-few 36 samples in 1 groups do not fill 3 folds"):
        train_stage.main()


def test_a_combiner_that_was_fitted_is_what_the_bundle_has(tmp_path, monkeypatch):
    monkeypatch.chdir(stacked(tmp_path / "w"))
    train_stage.main()
    fusion = load_bundle(paths.TRAINED).model.fusion
    unfitted = Stacking(fusion.modalities, 2).state_dict()
    assert not any(torch.equal(value, unfitted[name]) for name, value in fusion.state_dict().items())


@pytest.mark.parametrize("budget", [{"parameters": 1000}, {"multiply_adds": 1000}, {"latency_ms": 0.001}])
def test_a_model_past_its_budget_is_refused_before_the_first_step(tmp_path, monkeypatch, budget):
    monkeypatch.chdir(workspace(tmp_path / "w", train={"budget": budget}))
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("was trained"))
    with pytest.raises(InvalidError, match=f"budget-exceeded train.budget .* {next(iter(budget))} of"):
        train_stage.main()


def test_the_metrics_say_what_rare_classes_get(tmp_path, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path / "w", train={"epochs": 1, "class_weights": "inverse"}))
    train_stage.main()
    rows = json.loads((paths.METRICS / "train.json").read_text())["classes"]
    assert [row["label"] for row in rows] == tiny.LABELS
    assert sum(row["train"] for row in rows) == 36
    assert [row["counted_share"] for row in rows] == [0.5, 0.5]


def test_the_evaluation_tells_recall_without_what_training_did_about_rare_classes(tmp_path, monkeypatch):
    root = workspace(
        tmp_path / "w", train={"epochs": 1}, objective={"logit_adjustment": 8.0}, evaluate={"bootstrap": 20}
    )
    monkeypatch.chdir(root)
    rows = tables.read(paths.SPLITS, schema.SPLIT).to_pylist()
    for row in rows[:40]:  # the first label in two of three
        row["target"] = tiny.LABELS[0]
    tables.write_rows(paths.SPLITS, rows, schema.SPLIT)
    train_stage.main()
    evaluate_stage.main()
    common, rare = json.loads((paths.METRICS / "evaluate.json").read_text())["per_class"]
    assert rare["recall_uncorrected"] < rare["recall"]
    assert common["recall_uncorrected"] > common["recall"]


@pytest.mark.parametrize(
    ("module", "name", "fusion"), [(stacking, "fit", "stacking"), (validation, "fit_trust", "concat")]
)
def test_opinions_are_joined_by_the_loss_that_counts_rare_classes_as_training_does(
    tmp_path, monkeypatch, module, name, fusion
):
    given, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *some, each: (given.append(each), real(*some, each=each))[1])
    sections = {"model": {"fusion": fusion}, "objective": {"logit_adjustment": 2.0}}
    monkeypatch.chdir(workspace(tmp_path / "w", train={"epochs": 1, "stacking_folds": 2}, **sections))
    train_stage.main()
    shares = [row["share"] for row in json.loads((paths.METRICS / "train.json").read_text())["classes"]]
    wanted = [-2 * math.log(share) + math.log(sum(one**2 for one in shares)) for share in shares]
    assert len(given) == 1
    assert given[0](torch.zeros(2, 2), torch.tensor([0, 1])).tolist() == pytest.approx(wanted, abs=1e-4)


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
