"""Runs of the real pipeline on a small corpus, cancelled, killed, and beside a person at work."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retrained import commit, copy, state
from test_pipeline import change
from workspace import Workspace, make, set_params

from mmpipe.retrain import apart, children, lock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RUN = """
import json, sys
from pathlib import Path
from mmpipe.retrain.blocking import to_end
from mmpipe.retrain.run import Steps
from mmpipe.stages.process import run

async def judge(tree, say):
    return {"verdict": "promote", "champion": None, "reasons": [], "figures": {}}

def main():
    wishes = {"publish": "no", **json.loads(sys.argv[1])}
    tell = lambda step, line: print(step, "|", line, file=sys.stderr, flush=True)
    outcome = to_end(wishes, root=Path(), tell=tell, steps=Steps(judge=judge))
    print(json.dumps(outcome.as_json()))

run(main)
"""
OTHER = {"set": {"train.lr": 1e-3, "train.epochs": 4}}
"""What the runs are asked; it is long enough to be killed in the middle."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Reproduced and committed."""
    workspace = make(tmp_path_factory.mktemp("faults") / "w")
    set_params(workspace, {"train.checkpoint_steps": 2})
    workspace.run("dvc", "repro", "--quiet")
    for key, value in (("name", "Per Son"), ("email", "person@example.org")):
        workspace.run("git", "config", f"user.{key}", value)
    commit(workspace, "first")
    return workspace


@pytest.fixture
def workspace(prepared, tmp_path):
    return copy(prepared, tmp_path / "w")


def start(workspace: Workspace, wishes: dict) -> subprocess.Popen:
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(wishes)],
        cwd=workspace.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> dict:
    """The outcome of a run; what it said is in `said`."""
    out, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return {**json.loads(out), "said": said}


def reference(prepared: Workspace, folder: Path, wishes: dict) -> dict:
    """The outcome of an unbroken run on a copy."""
    outcome = finish(start(copy(prepared, folder), wishes))
    assert {one["name"] for one in outcome["stages"] if one["status"] == "ran"} >= {"train", "bundle"}
    return outcome


def test_cancelled_in_mid_training_it_goes_on_to_the_same_weights(prepared, workspace, tmp_path):
    whole = reference(prepared, tmp_path / "reference", OTHER)
    before = state(workspace)
    process = start(workspace, OTHER)
    for line in process.stderr:
        if line.startswith("train | epoch 2/"):
            break
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert time.monotonic() - begun < 10
    assert process.returncode == 143
    assert state(workspace) == before and lock.holder(workspace.root) is None
    assert not [path for path in (workspace.root / ".mmpipe/runs").iterdir() if path.name.isdigit()]
    kept = list((workspace.root / ".mmpipe/runs/shared/checkpoints").rglob("state-*"))
    assert kept
    resumed = finish(start(workspace, OTHER))
    assert resumed["bundle_sha256"] == whole["bundle_sha256"]
    assert not kept[0].parent.exists()  # the next run knew the state as its own, and has finished with it


@pytest.mark.parametrize("whom", ["run", "everything"])
def test_killed_at_any_moment_the_next_run_gives_the_same_model(prepared, workspace, tmp_path, whom):
    began = time.monotonic()
    whole = reference(prepared, tmp_path / "reference", OTHER)
    longest = time.monotonic() - began
    before = state(workspace)
    chance = random.Random(whom)
    killed = 0
    for _ in range(18):  # on a busy machine some have ended before they are killed
        if killed == 4:
            break
        process = start(workspace, OTHER)
        time.sleep(chance.uniform(0.2, 0.8 * longest))
        if process.poll() is None:
            killed += 1
        process.kill()
        for folder in (workspace.root / ".mmpipe/runs").glob("[0-9]*"):
            if whom == "everything" and folder.is_dir():
                children.kill(children.marked(apart.MARK, str(folder)))
        process.wait()
        assert lock.holder(workspace.root) is None
        assert state(workspace) == before
        process.stdout.close()
        process.stderr.close()
    assert killed >= 4
    outcome = finish(start(workspace, OTHER))
    assert outcome["bundle_sha256"] == whole["bundle_sha256"]
    assert state(workspace) == before
    assert not [path for path in (workspace.root / ".mmpipe/runs").iterdir() if path.name.isdigit()]
    assert workspace.run("git", "worktree", "list").stdout.count("\n") == 1
    assert not [pid for pid in _with_a_mark() if str(workspace.root) in pid]


def _with_a_mark() -> list[str]:
    """The marks of all processes that a run started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        found += [word.decode() for word in words if word.startswith(apart.MARK.encode())]
    return found


def test_a_person_reproduces_something_else_meanwhile(prepared, workspace, tmp_path):
    """Both extract, train and evaluate at once, with one cache and one feature store; both as if alone."""
    theirs = {"audio.n_mels": 32, "train.lr": 5e-4}
    ours = {"set": {"audio.n_mels": 48, "train.lr": 1e-3}}
    alone = copy(prepared, tmp_path / "alone")
    set_params(alone, theirs)
    alone.run("dvc", "repro", "--quiet")
    whole = reference(prepared, tmp_path / "reference", ours)

    set_params(workspace, theirs)
    process = start(workspace, ours)
    person = workspace.start("dvc", "repro")
    said = person.communicate(timeout=900)[0]
    outcome = finish(process)
    assert person.returncode == 0, said
    assert outcome["bundle_sha256"] == whole["bundle_sha256"]
    assert workspace.hashes() == alone.hashes()


def test_both_want_the_very_same_at_once(prepared, tmp_path):
    """Nothing is in the store or the cache: both write the same parts, shards and objects."""
    one = copy(prepared, tmp_path / "w")
    for path in (one.root / ".dvc/cache", one.root / ".mmpipe"):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    process = start(one, {"force_run": True})
    person = one.start("dvc", "repro", "--force")
    said = person.communicate(timeout=900)[0]
    outcome = finish(process)
    assert person.returncode == 0, said
    assert one.hashes() == prepared.hashes()
    assert {stage["status"] for stage in outcome["stages"]} == {"ran"}
    assert outcome["changed"] == []


def test_only_new_samples_are_extracted(prepared, workspace, tmp_path):
    shutil.copytree(prepared.root / ".mmpipe/store", workspace.root / ".mmpipe/store")
    folder = tmp_path / "landing"
    (folder / "f").mkdir(parents=True)
    corpus = workspace.root / "data/corpus"
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] and row["audio"]][:3]
    lines = [["id", "image", "text", "audio", "label"]]
    for number, row in enumerate(rows):
        names = []
        for key in ("image", "audio"):
            name = f"f/{number}{Path(row[key]).suffix}"
            (folder / name).write_bytes(change((corpus / row[key]).read_bytes(), Path(name).suffix))
            names.append(name)
        lines.append([f"new-{number}", names[0], row["text"], names[1], row["label"]])
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    outcome = finish(start(workspace, {"landing": str(folder)}))
    assert (outcome["landed"]["rows"], outcome["landed"]["left"]) == (3, [])
    computed = workspace.computed(outcome["said"])
    assert (computed["image"], computed["audio"]) == (3, 3)
    assert outcome["after"]["ingest"]["rows_in"] == outcome["before"]["ingest"]["rows_in"] + 3
    assert outcome["samples"]["added"] == {"count": 3, "ids": ["new-0", "new-1", "new-2"]}
    assert outcome["samples"]["removed"]["count"] == 0
    again = finish(start(workspace, {"landing": str(folder)}))
    assert set(workspace.computed(again["said"])) == set()


def test_the_command_with_the_real_gate(workspace):
    """The first model is promoted; one that has learned nothing is refused, and the champion stays."""
    first = workspace.run("mmpipe", "run", "--json")
    assert json.loads(first.stdout)["status"] == "promoted"
    assert "code | Running stage 'code':" in first.stderr
    worse = workspace.run("mmpipe", "run", "--json", "--set", "train.lr=1e-9", check=False)
    outcome = json.loads(worse.stdout)
    assert (worse.returncode, outcome["status"]) == (5, "refused")
    assert outcome["verdict"]["champion"] == "fusion@v1.0.0" and outcome["reason"] in worse.stderr
    assert workspace.run("git", "tag").stdout.split() == ["fusion#prod#1", "fusion@v1.0.0"]
    again = workspace.run("mmpipe", "run", "--set", "train.lr=1e-9")
    assert "retrain/2 is this very model already" in again.stdout
