"""The flow without Prefect's decorators, in a real workspace: no server, no engine."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import tiny_pipeline

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
    """Nothing of Prefect's engine runs: it could not without a server."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(made.root)
    tiny_pipeline.behave(made)
    return made


def run(**options):
    return retrain.retrain(Options(**options))


def test_runs_without_its_decorators(workspace):
    before = tiny_pipeline.status(workspace)
    outcome = asyncio.run(run())
    assert retrain.retrain.away
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


@pytest.mark.parametrize(("runs", "covered"), [(1, True), (2, False)])
def test_a_missed_run_is_covered_by_a_later_one_and_a_retry_by_none(workspace, monkeypatch, runs, covered):
    """A run that a person tries again is due since long, and has itself begun after that."""
    due = datetime.now(UTC) - timedelta(minutes=5)
    run = SimpleNamespace(name="late", scheduled_start_time=due, run_count=runs)
    monkeypatch.setattr(retrain, "runtime", SimpleNamespace(flow_run=run))
    monkeypatch.setattr(retrain, "_is_scheduled", lambda: True)
    options = Options(publish="no")

    async def hold():
        async with lock.held(workspace.root, retrain.run_name(options)):
            pass

    asyncio.run(hold())
    assert bool(retrain.coalesced(workspace.root, options)) == covered
    assert retrain.coalesced(workspace.root, Options(publish="yes")) is None


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


@pytest.fixture
def nowhere():
    """The URL of a server that is not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/api"


@pytest.mark.parametrize(
    "command", [["-m", "flows.retrain"], ["-c", "from mmpipe.cli import run; run()", "run"]], ids=str
)
def test_a_server_that_is_down_stops_nothing(workspace, nowhere, command, tmp_path):
    environment = {**os.environ, "PREFECT_API_URL": nowhere, "PREFECT_HOME": str(tmp_path)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command], cwd=workspace.root, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "retrain/1 is this very model already" in said
    assert time.monotonic() - began < 60  # Prefect's client alone would have tried for 62 s
    if "flows.retrain" in command:
        assert f"no server answers at {nowhere}: the run goes without" in said
        assert "train | " in said  # its own lines, in its own log


def test_a_failed_stage_is_the_exit_status_without_a_server_too(workspace, nowhere, tmp_path):
    tiny_pipeline.behave(workspace, exit_status=3)
    environment = {**os.environ, "PREFECT_API_URL": nowhere, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.retrain"],
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "it went wrong" in done.stderr) == (1, True), done.stderr
    assert lock.holder(workspace.root) is None


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
