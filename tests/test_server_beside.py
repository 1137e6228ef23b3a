"""Runs beside one another and beside a person at work: none of them meets another."""

import random
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import judged_pipeline
import pytest
from retrained import copy
from ruamel.yaml import YAML
from scheduling import running
from standing import FINAL, marked, names, told, until
from workspace import set_params

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DUE_S = 90
"""From now, for schedules: the server looks for new ones once a minute."""


@pytest.fixture
def workspace(tmp_path):
    return judged_pipeline.make(tmp_path / "w", tmp_path / "scratch", pause_s=1.5)


def bundle_of(workspace, commit):
    """DVC's hash of the model that a commit records."""
    text = workspace.run("git", "show", f"{commit}:dvc.lock").stdout
    outs = YAML(typ="safe").load(text)["stages"]["bundle"]["outs"]
    return next(out["md5"] for out in outs if out["path"] == "models/fusion")


def alone(workspace, folder, lr):
    """What a run comes to on a copy where nothing else happens: the model and the tree of its commit."""
    one = copy(workspace, folder)
    one.run("mmpipe", "run", "--set", f"train.lr={lr}")
    return bundle_of(one, "retrain/1"), one.run("git", "rev-parse", "retrain/1^{tree}").stdout


@contextmanager
def watched(workspace):
    """How many trainings of runs there were at once, looked at all the time."""
    most, over = [0], threading.Event()

    def look():
        while not over.is_set():
            trainings = [line for line in marked(workspace).values() if line.endswith("step.py train ")]
            most[0] = max(most[0], len(trainings))
            time.sleep(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def test_two_schedules_due_together_and_a_person_who_reproduces_meanwhile(workspace, tmp_path):
    models = {lr: alone(workspace, tmp_path / f"alone{lr}", lr)[0] for lr in (0.5, 0.7)}
    theirs = copy(workspace, tmp_path / "theirs")
    for one in (theirs, workspace):
        set_params(one, {"train.lr": 0.3})
    theirs.run("dvc", "repro", "--quiet")
    with running(workspace) as api:
        deployment = api.ask("deployments/name/retrain/retrain")
        due = (datetime.now(UTC) + timedelta(seconds=DUE_S)).isoformat()
        schedules = [
            {
                "schedule": {"interval": 86_400, "anchor_date": due},
                "active": True,
                "parameters": {"options": {"set": {"train.lr": lr}, "wait_s": 300}},
            }
            for lr in models
        ]
        with watched(workspace) as most:
            api.ask(f"deployments/{deployment['id']}/schedules", schedules)
            until(lambda: "prepare |" in told(workspace), "scheduled run")
            person = workspace.start("dvc", "repro")
            said = person.communicate(timeout=300)[0]
            assert person.returncode == 0, said
            runs = until(lambda: both(api), "end of both")
    assert most[0] == 1
    assert {run["auto_scheduled"] for run in runs} == {True}
    assert sorted(run["state"]["name"] for run in runs) == ["Promoted", "Refused"]
    found = {bundle_of(workspace, name) for name in ("retrain/1", "retrain/2")}
    assert found == set(models.values()) and len(found) == 2
    assert names(workspace) == ["main", "retrain/1", "retrain/2", "fusion#prod#1", "fusion@v1.0.0"]
    for name in ("dvc.lock", "params.yaml", "data/trained.txt", "models/fusion/config.json"):
        assert (workspace.root / name).read_bytes() == (theirs.root / name).read_bytes()
    assert "0.3 SOME DATA" in (workspace.root / "data/trained.txt").read_text()


def both(api):
    """Both runs, when they have ended; each had to wait for the other or did not."""
    found = api.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": sorted(FINAL)}}}})
    return found if len(found) == 2 else None


EDITS = {
    "edits": lambda w, n: (w.root / "source.txt").write_text(f"edit {n}\n"),
    "stages": lambda w, n: w.run("git", "add", "--all"),
    "commits": lambda w, n: w.run("git", "commit", "--quiet", "--all", "--allow-empty", "-m", f"edit {n}"),
    "switches": lambda w, n: w.run("git", "checkout", "--quiet", "-B", f"other{n % 3}"),
    "goes back": lambda w, n: w.run("git", "reset", "--quiet", "--hard", "first"),
    "sets params": lambda w, n: (w.root / "params.yaml").write_text(f"train:\n  lr: {n}\n"),
    "breaks code": lambda w, n: (w.root / "step.py").write_text("raise SystemExit('broken')\n"),
    "drops data": lambda w, n: (w.root / "data/features.txt").unlink(missing_ok=True),
    "writes data": lambda w, n: (w.root / "data/features.txt").write_text(f"edit {n}\n"),
    "writes raw": lambda w, n: (w.root / "given/tables/samples.parquet").write_bytes(b"edit"),
    "drops a model": lambda w, n: (w.root / "models/fusion/config.json").unlink(missing_ok=True),
    "writes dvc.lock": lambda w, n: (w.root / "dvc.lock").write_text("schema: '2.0'\n"),
    "tidies up": lambda w, n: w.run("git", "worktree", "prune"),
}


def test_a_person_who_never_stops_editing_does_not_reach_the_run(workspace, tmp_path):
    """Edited, staged, committed, another branch, other parameters, other data: all through the whole run."""
    workspace.run("git", "rm", "--quiet", "--cached", "source.txt")
    workspace.run("dvc", "add", "--quiet", "source.txt")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "-m", "raw data by DVC")
    workspace.run("git", "tag", "first")
    whole = alone(workspace, tmp_path / "alone", 0.5)
    start = workspace.run("git", "rev-parse", "HEAD").stdout
    chance, done = random.Random(7), []
    process = workspace.start("mmpipe", "run", "--set", "train.lr=0.5")
    until(lambda: "prepare |" in told(workspace), "start")
    while process.poll() is None:
        word = chance.choice(list(EDITS))
        EDITS[word](workspace, len(done))
        done.append(word)
        time.sleep(0.1)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert set(done) == set(EDITS)
    tree = workspace.run("git", "rev-parse", "retrain/1^{tree}").stdout
    assert (bundle_of(workspace, "retrain/1"), tree) == whole
    assert workspace.run("git", "rev-parse", "retrain/1^").stdout == start
    assert (
        workspace.run("git", "rev-parse", "fusion@v1.0.0^{commit}").stdout
        == workspace.run("git", "rev-parse", "retrain/1").stdout
    )
    assert "source.txt" not in workspace.run("git", "ls-tree", "--name-only", "retrain/1").stdout.split()
