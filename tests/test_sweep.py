"""`mmpipe sweep` in a real repository with real DVC; the training is a toy, in the slow test a real one."""

import fcntl
import json
import os
import re
import signal
import time

import pytest
import workspace as workspaces
from workspace import Workspace

from mmpipe import paths

STEP = """
import json, os, pathlib, sys, time
from ruamel.yaml import YAML
how = pathlib.Path(os.environ["TOY"])
lr = YAML(typ="safe").load(pathlib.Path("params.yaml").read_text())["train"]["lr"]
if (how / "broken").exists():
    sys.exit("no such luck")
if lr > 0.5:
    sys.exit("train-not-finite the loss is not finite")
folder = pathlib.Path(".mmpipe/live/key/plots/metrics")
folder.mkdir(parents=True)
rows = ["step\\tval_loss_calibrated"]
try:
    for epoch in range(3):
        rows.append(f"{epoch}\\t{lr + 1 / (epoch + 1)}")
        (folder / "val_loss_calibrated.tsv").write_text("\\n".join(rows))
        print(f"epoch {epoch + 1}/3  train_loss 1.000", file=sys.stderr, flush=True)
        while (how / "wait").exists() and epoch == 1:
            (how / "waiting").touch()
            time.sleep(0.05)
        time.sleep(5 if lr > 0.1 else 0)  # to be stopped meanwhile
except KeyboardInterrupt:
    (how / "stopped").touch()
    raise
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/train.json").write_text(json.dumps({"val_loss_calibrated": lr}))
pathlib.Path("model.txt").write_text(str(lr))
"""
PIPELINE = """
stages:
  train:
    cmd: exec python step.py
    deps: [step.py]
    params: [train.lr]
    outs: [model.txt]
    metrics: [metrics/train.json: {cache: false}]
"""
RANGE = ("sweep", "--set", "train.lr=1e-4..1e-2:log", "--startup", "1", "--prune-after", "1", "--trials")


@pytest.fixture
def toy(tmp_path):
    """A workspace whose one stage trains in no time; `waiting` is there when it was told to `wait`."""
    root, how = tmp_path / "w", tmp_path / "how"
    root.mkdir()
    how.mkdir()
    (root / "step.py").write_text(STEP)
    (root / paths.PIPELINE).write_text(PIPELINE)
    (root / paths.PARAMS).write_text("# mine\ntrain:\n  lr: 0.05  # of the loop\n")
    (root / ".gitignore").write_text("/.mmpipe/\n/logs/\n/model.txt\n")
    made = Workspace(root, {"TOY": str(how)})
    made.run("git", "init", "--quiet", "-b", "main")
    made.run("git", "config", "user.name", "A Person")
    made.run("git", "config", "user.email", "person@localhost")
    made.run("dvc", "init", "--quiet")
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "-m", "Something")
    return made, how


def experiments(workspace):
    names = workspace.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    return sorted(name.rpartition("/")[2] for name in names if "/exec/" not in name)


def test_an_interrupted_sweep_goes_on_and_its_trials_are_experiments(toy):
    workspace, how = toy
    (how / "wait").touch()
    process = workspace.start("mmpipe", *RANGE, "2")
    deadline = time.monotonic() + 120
    while not (how / "waiting").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    begun = workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    (workspace.root / paths.PARAMS).write_text("train:\n  lr: 0.07\n")  # of no effect on what was begun
    workspace.run("git", "commit", "--quiet", "-am", "Another rate")
    process.send_signal(signal.SIGINT)
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from here" in words
    assert experiments(workspace) == []
    (how / "wait").unlink()

    found = json.loads(workspace.run("mmpipe", *RANGE, "2", "--json").stdout)
    first, second = found["trials"]
    assert found["commit"] == begun
    assert first["experiment"] == "sweep-1" and first["state"] == "complete"
    assert first["value"] == first["params"]["train.lr"] and 1e-4 <= first["value"] <= 1e-2
    complete = [one["experiment"] for one in (first, second) if one["state"] == "complete"]
    assert experiments(workspace) == complete and found["best"] in complete
    assert (workspace.root / paths.PARAMS).read_text() == "train:\n  lr: 0.07\n"
    assert not (workspace.root / ".mmpipe/sweeps/sweep/clone").exists()

    workspace.run("dvc", "exp", "apply", "sweep-1")
    assert float((workspace.root / "model.txt").read_text()) == first["value"]
    applied = (workspace.root / paths.PARAMS).read_text()
    assert applied.split() == f"# mine\ntrain:\n  lr: {first['value']}  # of the loop\n".split()
    again = workspace.run("mmpipe", *RANGE, "2")
    assert (
        f"dvc exp apply {found['best']}" in again.stdout and "trial" not in again.stdout.splitlines()[0][:5]
    )


def test_a_bad_trial_is_stopped_and_one_that_cannot_be_trained_counts(toy):
    workspace, how = toy
    deaf = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")  # as with nohup, or `&` in a script
    choices = ("sweep", "--name", "few", "--seed", "6", "--set", "train.lr=0.01,0.2,0.9", "--startup", "1")
    done = workspace.run(*deaf, "mmpipe", *choices, "--prune-after", "1", "--trials", "9")
    lines = done.stdout.splitlines()
    assert re.fullmatch(
        r"trial 1/9  few-1  train.lr 0.01  val_loss_calibrated 0.0100  best 0.0100 few-1", lines[0]
    )
    pruned, failed = sorted(lines[1:3], key=lambda line: "failed" in line)
    assert re.fullmatch(
        r"trial ./9  few-.  train.lr 0.2  pruned after epoch [123]  best 0.0100 few-1", pruned
    )
    assert "train.lr 0.9  failed train-not-finite the loss is not finite" in failed
    assert "(1 complete, 1 pruned, 1 failed)" in lines[3] and "every combination has been tried" in lines
    assert experiments(workspace) == ["few-1"] and (how / "stopped").exists()


def test_what_is_not_in_the_commit_is_asked_for_first(toy):
    workspace, _ = toy
    (workspace.root / paths.PARAMS).write_text("train:\n  lr: 0.07\n")
    done = workspace.run("mmpipe", *RANGE, "2", check=False)
    assert done.returncode == 5 and "tree-dirty" in done.stderr and "params.yaml" in done.stderr


def test_nobodys_experiments_are_written_over_and_two_at_once_are_refused(toy):
    workspace, _ = toy
    workspace.run("git", "update-ref", "refs/exps/00/00/sweep-7", "HEAD")
    taken = workspace.run("mmpipe", *RANGE, "1", check=False)
    assert taken.returncode == 2 and "sweep-differs sweep" in taken.stderr and "'sweep-7'" in taken.stderr
    with (workspace.root / ".mmpipe/sweeps/sweep/lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        busy = workspace.run("mmpipe", *RANGE, "1", check=False)
    assert busy.returncode == 7 and "locked sweep sweep is at work already" in busy.stderr


def test_any_other_failure_ends_the_sweep_and_counts_for_nothing(toy):
    workspace, how = toy
    (how / "broken").touch()
    done = workspace.run("mmpipe", *RANGE, "1", check=False)
    assert done.returncode == 1 and "no such luck" in done.stderr and "trial 1" not in done.stdout
    (how / "broken").unlink()
    found = json.loads(workspace.run("mmpipe", *RANGE, "1", "--json").stdout)
    assert [(one["experiment"], one["state"]) for one in found["trials"]] == [("sweep-1", "complete")]


@pytest.mark.slow
def test_trials_train_for_real(tmp_path):
    workspace = workspaces.make(tmp_path / "w")
    workspace.repro()
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "-m", "First")
    choices = ("sweep", "--set", "train.lr=1e-4..1e-2:log", "--set", "model.dim=32,48", "--json", "--trials")
    begun = json.loads(workspace.run("mmpipe", *choices, "1").stdout)
    process = workspace.start("mmpipe", *choices, "3")
    states = workspace.root / ".mmpipe/sweeps/sweep/checkpoints"
    deadline = time.monotonic() + 300
    while not (unfinished := sorted(states.glob("*/state-*"))):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) and process.returncode == 143
    found = json.loads(workspace.run("mmpipe", *choices, "3").stdout)
    assert not unfinished[0].parent.exists()  # it went on from there
    assert found["metric"] == "val_loss_calibrated"
    assert found["trials"][:1] == begun["trials"] and len(found["trials"]) == 3
    best = min(found["trials"], key=lambda one: one["value"])
    assert found["best"] == best["experiment"]
    workspace.run("dvc", "exp", "apply", best["experiment"])
    assert (
        json.loads((workspace.root / "metrics/train.json").read_text())["val_loss_calibrated"]
        == best["value"]
    )
    assert workspace.repro()[0] == []
    assert len(list((workspace.root / paths.TENSORBOARD).iterdir())) == 4  # all in one view


def test_without_optuna_it_says_what_to_install(tmp_path):
    (tmp_path / "optuna.py").write_text("raise ImportError('none')\n")
    (tmp_path / paths.PIPELINE).touch()
    workspace = Workspace(
        tmp_path, {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(workspaces.REPOSITORY)])}
    )
    done = workspace.run("mmpipe", *RANGE, "2", check=False)
    assert done.returncode == 3 and "library-missing" in done.stderr and "mmpipe[sweep]" in done.stderr
