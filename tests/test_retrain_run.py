"""Whole runs on the small workspace: real git, DVC and registry; only the gate's verdict is given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retrained import ORDER, call, commit, copy, drop, results, state
from workspace import set_params

from mmpipe.errors import InvalidError, LockedError, MmpipeError
from mmpipe.registry import tagged
from mmpipe.retrain import lock
from mmpipe.retrain.options import Options
from mmpipe.retrain.run import Steps, retrain

ROWS = [("a", "a dog", "dog"), ("b", "a cat", "cat")]


def judging(word, champion=None):
    """Steps whose gate says this."""

    async def judge(tree, say):
        say(f"{word} it is")
        return {"verdict": word, "champion": champion, "reasons": [f"because of {word}"], "figures": {}}

    return Steps(judge=judge)


def run(workspace, word="promote", *, steps=None, **options):
    """A run from start to end; the checkout must be as it was before, and no worktree left."""
    before = state(workspace)
    told = []
    try:
        return call(
            retrain,
            Options(**options),
            root=workspace.root,
            name="test",
            steps=steps or judging(word),
            tell=lambda *line: told.append(line),
        )
    finally:
        assert state(workspace) == before
        assert workspace.run("git", "worktree", "list").stdout.count("\n") == 1
        assert not [path for path in (workspace.root / ".mmpipe/runs").iterdir() if path.name.isdigit()]
        assert lock.holder(workspace.root) is None


def refs(workspace):
    """Branches and tags, with what they are."""
    return workspace.run("git", "for-each-ref", "--format=%(refname:short) %(objectname)").stdout.splitlines()


def names(workspace):
    return [line.split()[0] for line in refs(workspace)]


def statuses(outcome):
    return {one.name: one.status for one in outcome.stages}


@pytest.fixture
def workspace(retrainable, tmp_path):
    return copy(retrainable, tmp_path / "w")


UNCHANGED = {**dict.fromkeys(ORDER, "cached"), "code": "ran"}


def test_the_first_model_is_promoted_and_then_nothing_is_to_do(workspace):
    first = run(workspace)
    assert (first.status, first.exit_status, statuses(first)) == ("promoted", 0, UNCHANGED)
    assert names(workspace) == ["main", "retrain/1", "fusion#prod#1", "fusion@v1.0.0"]
    shown = workspace.run("git", "log", "-1", "--format=%an %ae %cn%n%P%n%B", "retrain/1").stdout
    assert shown.startswith("mmpipe bot mmpipe-bot@localhost mmpipe bot\n" + first.started_at)
    assert "- because of promote" in shown and f"Bundle-SHA256: {first.bundle_sha256}" in shown
    version = tagged.read(workspace.root).resolve("fusion#prod")
    assert (version.bundle_sha256, version.who) == (first.bundle_sha256, "mmpipe bot")
    before = refs(workspace)
    second = run(workspace)
    assert (second.status, second.known, statuses(second)) == ("unchanged", "fusion@v1.0.0", UNCHANGED)
    assert refs(workspace) == before
    kept = json.loads((workspace.root / ".mmpipe/runs/2.json").read_text())
    assert kept["status"] == "unchanged" and kept["run"] == second.run == "retrain/2"
    assert "code | Running stage 'code':" in (workspace.root / ".mmpipe/runs/2.log").read_text()


def test_new_samples_come_in_once_and_stay(workspace):
    folder = workspace.root.parent / "landing"
    drop(folder, ROWS)
    first = run(workspace, "refuse", landing=str(folder))
    assert (first.status, first.exit_status, first.landed["rows"]) == ("refused", 5, 2)
    assert set(statuses(first).values()) == {"ran"}
    assert names(workspace) == ["main", "retrain/1"]
    changed = workspace.run("git", "diff", "--name-only", "main", "retrain/1").stdout.split()
    assert {"data/raw.dvc", "dvc.lock", "metrics/ingest.json", "params.yaml"} <= set(changed)
    assert first.after["ingest"]["rows_in"] == 2

    again = run(workspace, "refuse", landing=str(folder))
    assert (again.status, again.known, statuses(again)) == ("unchanged", "retrain/1", UNCHANGED)
    assert (again.landed["rows"], again.landed["known"], len(again.carried)) == (0, 2, 1)

    drop(folder, [("c", "a cow", "cow")])  # what landed before is no longer there
    third = run(workspace, "refuse", landing=str(folder))
    assert (third.landed["rows"], third.landed["known"]) == (1, 0)
    assert third.after["ingest"]["rows_in"] == 3
    before, after = (set(files(workspace, name)) for name in ("main", "retrain/3"))
    assert after - before == {"data/.gitignore", "data/raw.dvc"}
    manifests = workspace.run("git", "show", "retrain/3:params.yaml").stdout.count("data/raw/landed/")
    assert manifests == 2


def files(workspace, commit):
    """All that git has in a commit."""
    return workspace.run("git", "ls-tree", "-r", "--name-only", commit).stdout.splitlines()


def test_a_failing_stage_is_the_outcome_and_leaves_no_trace(workspace, monkeypatch):
    monkeypatch.setenv("MOOD", "fail")
    before = refs(workspace)
    outcome = run(workspace, set={"train.lr": 0.5})
    assert (outcome.status, outcome.stage_failed, outcome.exit_status) == ("failed", "train", 1)
    assert "the learning rate is bad" in outcome.reason
    assert outcome.verdict is None and refs(workspace) == before


@pytest.mark.slow
def test_a_run_that_was_cut_off_before_the_promotion_is_ended_by_the_next(workspace):
    async def broken(*_):
        raise MmpipeError("step-failed", "the power is gone")

    with pytest.raises(MmpipeError, match="the power is gone"):
        run(workspace, steps=Steps(judge=judging("promote").judge, promote=broken))
    assert "fusion@v1.0.0" in names(workspace) and "fusion#prod#1" not in names(workspace)
    assert json.loads((workspace.root / ".mmpipe/runs/1.json").read_text())["status"] == "failed"
    after = run(workspace)
    assert (after.status, after.known) == ("promoted", "fusion@v1.0.0")
    assert "fusion#prod#1" in names(workspace)


def test_the_command_tells_and_cleans_up_after_sigterm(workspace):
    """A run of its own process: the second is told, SIGTERM ends it, and what it did is used by the next."""
    environment = {**os.environ, "EPOCHS": "100"}
    command = [str(Path(sys.executable).parent / "mmpipe"), "run", "--set", "train.lr=0.5"]
    process = subprocess.Popen(
        command,
        cwd=workspace.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("train | epoch 2 "):
                break
        with pytest.raises(LockedError, match=f"run of process {process.pid} is in progress"):
            run_beside(workspace)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[0]
        assert time.monotonic() - started < 10
    finally:
        process.kill()
    assert process.returncode == 143, rest
    assert lock.holder(workspace.root) is None
    assert names(workspace) == ["main"]
    assert not (workspace.root / ".mmpipe/runs/1").exists()
    told = []
    outcome = call(
        retrain,
        Options(set={"train.lr": 0.5}, publish="no"),
        root=workspace.root,
        name="next",
        steps=judging("promote"),
        tell=lambda *line: told.append(line),
    )
    assert outcome.status == "judged", outcome.reason
    assert ("train", "epoch 1 after 0") not in told


def run_beside(workspace):
    call(retrain, Options(), root=workspace.root, name="second", steps=judging("promote"))


@pytest.mark.slow
def test_a_dry_run_and_one_that_only_judges_leave_no_trace(workspace):
    before = refs(workspace)
    dry = run(workspace, publish="dry-run", set={"train.lr": 0.5})
    assert (dry.status, dry.published["tag"], dry.commit) == ("judged", "fusion@v1.0.0", None)
    judged = run(workspace, publish="no", set={"train.lr": 0.5})
    assert (judged.status, judged.published) == ("judged", None)
    assert statuses(judged)["train"] == "cached"  # the first left it in the run-cache
    kept = run(workspace, promote=False, set={"train.lr": 0.7})
    assert (kept.status, kept.promoted) == ("published", None)
    before = refs(workspace)
    refused = run(workspace, "refuse", publish="no", set={"train.lr": 0.5})
    assert (refused.status, refused.exit_status) == ("refused", 5)
    assert refs(workspace) == before


@pytest.mark.slow
def test_a_chosen_branch_is_gone_on_with(workspace):
    first = run(workspace, branch="production", set={"train.lr": 0.5})
    assert first.branch == "production"
    second = run(workspace, branch="production", set={"train.lr": 0.7})
    assert (second.started_at, second.status) == (first.commit, "promoted")
    assert "retrain/1" not in names(workspace)
    third = run(workspace, "refuse", branch="production", set={"train.lr": 0.9})
    assert third.branch == "retrain/3"
    assert workspace.run("git", "rev-parse", "production").stdout.strip() == second.commit
    with pytest.raises(InvalidError, match="branch-moved main"):
        run(workspace, branch="main", set={"train.lr": 0.8})


@pytest.mark.slow
def test_what_is_published_is_at_the_remotes(workspace, tmp_path):
    for words in (
        ("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git")),
        ("git", "remote", "add", "origin", str(tmp_path / "origin.git")),
        ("dvc", "remote", "add", "--default", "store", "../store"),  # relative to .dvc
    ):
        workspace.run(*words)
    commit(workspace, "remotes")
    workspace.run("git", "push", "--quiet", "origin", "main")
    outcome = run(workspace, set={"train.lr": 0.5})
    assert outcome.status == "promoted"
    there = workspace.run("git", "ls-remote", "origin").stdout
    for name in ("refs/heads/retrain/1", "refs/tags/fusion@v1.0.0", "refs/tags/fusion#prod#1"):
        assert name in there
    clone = workspace.root.parent / "clone"
    workspace.run(
        "git", "clone", "--quiet", "--branch", "retrain/1", str(tmp_path / "origin.git"), str(clone)
    )
    workspace.run(
        "dvc", "--cd", str(clone), "remote", "add", "--local", "--force", "store", str(tmp_path / "store")
    )
    workspace.run("dvc", "--cd", str(clone), "pull", "models/fusion")
    assert b"0.5" in results(clone / "models/fusion")["model.safetensors"]


def remote(workspace, folder):
    """A git remote; what `refuse` is given a pattern of, it does not take."""
    workspace.run("git", "init", "--quiet", "--bare", str(folder))
    workspace.run("git", "remote", "add", "origin", str(folder))
    workspace.run("git", "push", "--quiet", "origin", "main")
    return folder / "hooks/update"


def refuse(hook, pattern):
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ncase "$1" in {pattern}) echo "the disk is full"; exit 1;; esac\n')
    hook.chmod(0o755)


def at_remote(workspace):
    lines = workspace.run("git", "ls-remote", "origin", "refs/heads/*", "refs/tags/*").stdout.splitlines()
    return sorted(line.split("\t")[1] for line in lines if not line.endswith("^{}"))


def test_a_push_that_failed_after_the_tag_was_made_is_repeated(workspace, tmp_path):
    hook = remote(workspace, tmp_path / "origin.git")
    refuse(hook, "refs/tags/fusion@*")
    with pytest.raises(MmpipeError, match="the disk is full"):
        run(workspace)
    assert "fusion@v1.0.0" in names(workspace) and at_remote(workspace) == ["refs/heads/main"]
    with pytest.raises(MmpipeError, match="the disk is full"):  # also told by the next one
        run(workspace)
    hook.unlink()
    outcome = run(workspace)
    assert (outcome.status, outcome.pushed) == ("promoted", ["fusion@v1.0.0"])
    everything = [
        "refs/heads/main",
        "refs/heads/retrain/1",
        "refs/tags/fusion#prod#1",
        "refs/tags/fusion@v1.0.0",
    ]
    assert at_remote(workspace) == everything


@pytest.mark.slow
def test_a_stage_that_could_not_be_pushed_is_pushed_by_the_next_run(workspace, tmp_path):
    hook = remote(workspace, tmp_path / "origin.git")
    refuse(hook, "refs/tags/fusion#*")
    with pytest.raises(MmpipeError, match="remote-failed"):
        run(workspace)
    assert "refs/tags/fusion@v1.0.0" in at_remote(workspace)
    hook.unlink()
    outcome = run(workspace)
    assert (outcome.status, outcome.pushed) == ("unchanged", ["fusion#prod#1"])
    assert "refs/tags/fusion#prod#1" in at_remote(workspace)
    workspace.run("git", "remote", "set-url", "origin", str(tmp_path / "gone"))
    assert run(workspace).status == "unchanged"  # nothing is open: nobody is asked


@pytest.mark.slow
def test_samples_that_the_person_adds_and_samples_that_landed_are_both_there(workspace, tmp_path):
    drop(tmp_path / "landing", ROWS)
    run(workspace, "refuse", landing=str(tmp_path / "landing"))
    raw = workspace.root / "data/raw"
    workspace.run("git", "rm", "--quiet", "data/raw/.gitkeep")
    (raw / "mine").mkdir(parents=True)
    (raw / "mine/rows.jsonl").write_text('{"id": "m", "text": "mine", "label": "dog"}\n')
    workspace.run("dvc", "add", "--quiet", "data/raw")
    commit(workspace, "my own")
    outcome = run(workspace, "refuse")
    assert outcome.after["ingest"]["rows_in"] == 3 and len(outcome.carried) == 1
    before = outcome.bundle_sha256
    assert run(workspace, "refuse").bundle_sha256 == before


@pytest.mark.slow
def test_an_import_is_brought_up_to_date(workspace, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/rows.jsonl").write_text("{}\n")
    workspace.run("dvc", "import-url", "--quiet", str(tmp_path / "source"), "data/raw/source")
    workspace.run("dvc", "repro", "--quiet")
    commit(workspace, "import")
    assert run(workspace, "refuse", update_imports=True).updated == []
    (tmp_path / "source/rows.jsonl").write_text("{}\n{}\n")
    assert run(workspace, "refuse").after["ingest"]["rows_in"] == 1
    drop(tmp_path / "landing", ROWS)
    outcome = run(workspace, "refuse", update_imports=True, landing=str(tmp_path / "landing"))
    assert outcome.updated == ["data/raw/source.dvc"]
    assert outcome.after["ingest"]["rows_in"] == 4


@pytest.mark.slow
def test_a_person_at_work_in_the_checkout_and_a_run_do_not_meet(workspace, monkeypatch):
    set_params(workspace, {"train.lr": 0.25})
    monkeypatch.setenv("EPOCHS", "30")
    person = workspace.start("dvc", "repro")
    outcome = run_while(workspace, set={"train.lr": 0.5})
    output = person.communicate()[0]
    assert person.returncode == 0, output
    assert outcome.status == "judged"
    assert b"0.25" in results(workspace.root / "models/fusion")["model.safetensors"]


def run_while(workspace, **options):
    return call(
        retrain,
        Options(publish="no", **options),
        root=workspace.root,
        name="test",
        steps=judging("promote"),
    )
