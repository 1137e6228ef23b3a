"""The scheduling by itself; then real DVC on a small pipeline in a run's worktree."""

import asyncio
import os
import time

import pytest
from retrained import ORDER, call, commit, copy, results, state
from workspace import set_params

from mmpipe.processes import alive
from mmpipe.retrain import apart, children, dag, stages, worktree
from mmpipe.retrain.dag import Stage
from mmpipe.retrain.stages import StageResult

FORK = [
    Stage("code", (), ("src",), True),
    Stage("a", ("code",), ("out/code.a", "raw"), False),
    Stage("b", ("code",), ("out/code.b", "raw"), False),
    Stage("end", ("a", "b"), ("out/a", "out/b"), False),
]


def schedule(answers, **options):
    """(results, in which order stages started and ended or were left); `answers`: stage → the rest of one."""
    log = []

    async def run(name):
        log.append(f"{name} starts")
        await asyncio.sleep(0.01)
        log.append(f"{name} ends")
        return StageResult(name, **answers.get(name, {"status": "ran"}))

    async def leave(result):
        log.append(f"{result.name} {result.status}")

    found = call(stages.reproduce, FORK, run, leave, **options)
    assert [one.name for one in found] == [one.name for one in FORK]
    return {one.name: one.status for one in found}, log


def test_what_reads_nothing_changed_is_not_started():
    found, log = schedule({"code": {"status": "ran", "changed": ()}})
    assert found == {"code": "ran", "a": "cached", "b": "cached", "end": "cached"}
    assert log == ["code starts", "code ends", "a cached", "b cached", "end cached"]


def test_what_reads_a_changed_path_is_started_and_nothing_else():
    found, _ = schedule({"code": {"status": "ran", "changed": ("out/code.b",)}})
    assert found == {"code": "ran", "a": "cached", "b": "ran", "end": "cached"}


def test_independent_stages_run_side_by_side_and_the_next_waits():
    _, log = schedule({"a": {"status": "ran", "changed": ("out/a/part",)}}, force=True)
    assert log[:4] == ["code starts", "code ends", "a starts", "b starts"]
    assert log[-2:] == ["end starts", "end ends"]


def test_only_so_many_run_side_by_side():
    _, log = schedule({}, force=True, parallel=1)
    assert [line.split()[1] for line in log] == ["starts", "ends"] * 4


def test_what_follows_a_failure_is_left_out_and_what_does_not_ends():
    found, log = schedule({"a": {"status": "failed"}}, force=True)
    assert found == {"code": "ran", "a": "failed", "b": "ran", "end": "left out"}
    assert log[-1] == "end left out"


def test_an_error_of_the_caller_comes_out_as_it_is():
    async def run(name):
        raise ValueError(name)

    async def leave(result):
        raise AssertionError(result)

    with pytest.raises(ValueError, match="code"):
        call(stages.reproduce, FORK, run, leave)


def test_a_folder_and_what_is_in_it_are_read_together():
    stage = Stage("s", (), ("data/raw", "out/x.json"), False)
    assert [stage.reads(path) for path in ("data/raw/a", "data", "out/x.json")] == [True, True, True]
    assert [stage.reads(path) for path in ("data/rawer", "out/x", "out/y.json")] == [False, False, False]


@pytest.fixture
def workspace(retrainable, tmp_path):
    return copy(retrainable, tmp_path / "w")


@pytest.fixture
def tree(workspace):
    before = state(workspace)
    tree = worktree.prepare(workspace.root)
    yield tree
    worktree.remove(tree)
    assert state(workspace) == before


async def plan(tree):
    return dag.read(await apart.call("plan", {}, cwd=tree.root, variables=tree.environment, say=print))


def reproduce(tree, *, force=False, **options):
    """(stage → result, all that was printed) of all stages."""
    told, left = [], []

    async def leave(result):
        left.append(result)

    async def run():
        graph = await plan(tree)
        assert {one.name for one in graph} == set(ORDER)
        one = lambda name: stages.run_stage(tree, name, lambda *line: told.append(line), force=force)  # noqa: E731
        return await stages.reproduce(graph, one, leave, force=force, **options)

    found = asyncio.run(run())
    assert {id(one) for one in left} == {
        id(one) for one in found if one.status == "left out" or not one.seconds
    }
    return {one.name: one for one in found}, told


def test_nothing_changed_nothing_runs_and_all_is_there(workspace, tree):
    found, told = reproduce(tree)
    assert {name: one.status for name, one in found.items()} == {
        **dict.fromkeys(ORDER, "cached"),
        "code": "ran",
    }
    assert {stage for stage, _ in told} == {"code"}
    assert results(tree.root / "models/fusion") == results(workspace.root / "models/fusion")


def test_a_changed_parameter_runs_what_reads_it(workspace, tree):
    (tree.root / "params.yaml").write_text("train: {lr: 0.5}\n")
    found, told = reproduce(tree)
    assert [name for name, one in found.items() if one.status == "ran"] == ["code", "train"]
    assert found["train"].changed == ("models/fusion",)
    assert ("train", "epoch 1 after 0") in told
    assert not [line for _, line in told if "git add" in line or not line.strip()]
    assert results(tree.root / "models/fusion") != results(workspace.root / "models/fusion")


def only(tree, *names, force=False):
    """These stages side by side, on what DVC has checked out; (results, all that was printed)."""
    told = []

    async def run():
        await plan(tree)
        tell = lambda _, line: told.append(line)  # noqa: E731
        return await asyncio.gather(*(stages.run_stage(tree, name, tell, force=force) for name in names))

    return asyncio.run(run()), told


def test_three_extractions_run_at_the_same_time(tree, tmp_path, monkeypatch):
    """Each waits for the other two."""
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("PARTY", "3")
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    found, _ = only(tree, "extract@audio", "extract@image", "extract@text", force=True)
    assert [(one.status, one.changed, one.reason) for one in found] == [("ran", (), "")] * 3


def test_a_failing_stage_is_named_with_its_own_words(tree, monkeypatch):
    monkeypatch.setenv("MOOD", "fail")
    (tree.root / "params.yaml").write_text("train: {lr: 0.5}\n")
    [failed], _ = only(tree, "train")
    assert (failed.status, failed.exit_status, failed.reason) == ("failed", 1, "the learning rate is bad")


def test_an_output_that_is_not_there_afterwards_is_a_failure(tree, tmp_path, monkeypatch):
    (tree.root / "params.yaml").write_text("train: {lr: 0.5}\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LOSE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    [failed], _ = only(tree, "train")
    assert failed.status == "failed"
    assert "out-damaged" in failed.reason and "models/fusion" in failed.reason


LOSE = '''
"""In the process of DVC: the file is lost after DVC has recorded it."""
import sys
if "mmpipe.retrain.step" in sys.orig_argv:
    from pathlib import Path
    from dvc.repo import Repo
    reproduce = Repo.reproduce
    def losing(self, *words, **options):
        found = reproduce(self, *words, **options)
        Path("models/fusion/config.json").unlink(missing_ok=True)
        return found
    Repo.reproduce = losing
'''


def test_a_cancelled_stage_is_gone_and_goes_on_from_its_checkpoint(workspace, tree, monkeypatch):
    monkeypatch.setenv("EPOCHS", "50")
    (tree.root / "params.yaml").write_text("train: {lr: 0.5}\n")
    told = []

    async def cancel():
        await plan(tree)
        task = asyncio.create_task(stages.run_stage(tree, "train", lambda _, line: told.append(line)))
        while not any(line.startswith("epoch 3 ") for line in told):
            await asyncio.sleep(0.02)
        pids = children.marked(apart.MARK, str(tree.folder))
        started = time.monotonic()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return pids, time.monotonic() - started

    pids, seconds = asyncio.run(cancel())
    assert len(pids) >= 2 and not any(map(alive, pids))
    assert seconds < 10
    worktree.remove(tree)
    again = worktree.prepare(workspace.root)
    (again.root / "params.yaml").write_text("train: {lr: 0.5}\n")
    monkeypatch.setenv("EPOCHS", "5")
    _, said = only(again, "train")
    worktree.remove(again)
    epochs = [line.split()[1] for line in said if line.startswith("epoch")]
    assert epochs[0] != "1" and epochs[-1] == "5"


def test_edits_of_the_person_do_not_come_in(workspace, tree):
    set_params(workspace, {"train.lr": 0.9})
    (workspace.root / "steps.py").write_text("raise SystemExit('edited')\n")
    (workspace.root / "data/raw/rows.jsonl").write_text("{}\n")
    found, _ = reproduce(tree)
    assert {one.status for one in found.values()} == {"ran", "cached"}
    assert found["train"].status == "cached"
    (workspace.root / "data/raw/rows.jsonl").unlink()
    workspace.run("git", "checkout", "--quiet", ".")


def test_a_stage_of_another_dvc_yaml_is_not_ours(workspace):
    (workspace.root / "other").mkdir()
    (workspace.root / "other/dvc.yaml").write_text("stages: {x: {cmd: exit 1}}\n")
    commit(workspace, "another pipeline")
    tree = worktree.prepare(workspace.root)
    try:
        assert {one.name for one in asyncio.run(plan(tree))} == set(ORDER)
    finally:
        worktree.remove(tree)
