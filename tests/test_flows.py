"""The flow without Prefect's decorators, in a real workspace: no server, no engine."""

import asyncio
import subprocess
import sys

import pytest
import tiny_pipeline
from prefect import Task

from flows import proof, retrain
from mmpipe.errors import MmpipeError
from mmpipe.retrain import lock
from mmpipe.retrain.options import Options

pytestmark = pytest.mark.filterwarnings("default:::prefect")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    return tiny_pipeline.make(folder / "w", folder / "scratch")


@pytest.fixture
def workspace(made, monkeypatch):
    """No task is one any more, and the flow is called as a function."""
    tasks = {name: value for name, value in vars(retrain).items() if isinstance(value, Task)}
    assert set(tasks) == {"snapshot", "plan", "stage", "skipped", "gate", "publish", "promote"}
    for name, value in tasks.items():
        monkeypatch.setattr(retrain, name, value.fn)
    monkeypatch.chdir(made.root)
    tiny_pipeline.behave(made)
    return made


def run(**options):
    return retrain.retrain.fn(Options(**options))


def test_runs_without_its_decorators(workspace):
    before = tiny_pipeline.status(workspace)
    outcome = asyncio.run(run())
    assert {one["name"]: one["status"] for one in outcome["stages"]} == dict.fromkeys(
        tiny_pipeline.STAGES, "ran"
    )
    assert (outcome["status"], outcome["known"]) == ("unchanged", "retrain/1")
    assert tiny_pipeline.status(workspace) == before
    assert not [path for path in (workspace.root / ".mmpipe/runs").glob("*") if path.name.isdigit()]


def test_a_failing_stage_raises_with_its_own_words(workspace):
    tiny_pipeline.behave(workspace, exit_status=3)
    with pytest.raises(MmpipeError, match="stage train failed: it went wrong"):
        asyncio.run(run())


def test_a_second_run_is_skipped(workspace):
    async def both():
        async with lock.held(workspace.root, "crimson-fox"):
            return await run()

    assert asyncio.run(both()).startswith("run crimson-fox is in progress")


def test_cancelled_it_leaves_nothing(workspace):
    tiny_pipeline.behave(workspace, pause_s=60)
    before = tiny_pipeline.status(workspace)

    async def cancelled():
        task = asyncio.create_task(run())
        while not list((workspace.root / ".mmpipe/runs").glob("*/data/features.txt")):
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        task.cancel()
        started = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(cancelled()) < 10  # what the step promises, not how fast it is
    assert lock.holder(workspace.root) is None
    assert not [path for path in (workspace.root / ".mmpipe/runs").glob("*") if path.name.isdigit()]
    assert tiny_pipeline.status(workspace) == before
    running = subprocess.run(["pgrep", "-f", str(workspace.root)], capture_output=True, text=True).stdout
    assert running.split() == []


def test_no_champion_is_nothing_to_reproduce(workspace):
    found = asyncio.run(proof.reproduce_champion.fn())
    assert (found.name, found.message) == ("Skipped", "no version holds the stage prod yet")


def test_nothing_is_reproduced_while_a_retraining_is_in_progress(workspace):
    async def both():
        async with lock.held(workspace.root, "crimson-fox"):
            return await proof.reproduce_champion.fn("fusion@v1.0.0")

    found = asyncio.run(both())
    assert found.name == "Skipped" and found.message.startswith("run crimson-fox is in progress")


def test_only_a_temporary_failure_is_tried_again():
    from prefect.states import Failed

    def state(status):
        result = retrain.StageResult("train", "failed", exit_status=status, reason="why")
        return Failed(data=retrain.StageFailedError(result))

    async def tried():
        return [one for one in (1, 2, 75, 137) if await retrain.is_transient(None, None, state(one))]

    assert asyncio.run(tried()) == [75]


def test_the_scheduler_loads_nothing_heavy():
    code = "import sys, flows.retrain, flows.deploy; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "mmpipe.retrain.run" in loaded.split()
    assert {"torch", "cv2", "matplotlib", "dvc", "pyarrow"} & set(loaded.split()) == set()
