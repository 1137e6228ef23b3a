"""A server that goes away in mid-run, and comes back soon, late or never: the run does all of its work."""

import os
import signal
import time

import judged_pipeline
import pytest
from scheduling import running
from standing import begin, flow_process, gone_within, lives, names, standing, told, until

from mmpipe.retrain import lock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
OPTIONS = {"set": {"train.lr": 0.5}}
DONE = ["main", "retrain/1", "fusion#prod#1", "fusion@v1.0.0"]


@pytest.fixture
def workspace(tmp_path):
    return judged_pipeline.make(tmp_path / "w", tmp_path / "scratch", pause_s=2.0)


def in_training(workspace):
    until(lambda: "train | epoch 2/" in told(workspace), "training")


def server_of(workspace):
    """The process of the server that `mmpipe ui` watches."""
    from scheduling import processes

    found = [one for one in processes(workspace.root) if b"uvicorn" in (one / "cmdline").read_bytes()]
    assert len(found) == 1
    return int(found[0].name)


def test_killed_under_mmpipe_ui_it_comes_back_and_shows_all(workspace):
    with running(workspace) as api:
        run = begin(api, **OPTIONS)
        in_training(workspace)
        os.kill(server_of(workspace), signal.SIGKILL)
        until(lambda: "fusion#prod#1" in names(workspace), "promotion")
        pid = flow_process(run)
        until(lambda: api.names("Promoted"), "final state")
        until(lambda: not lives(pid), "end of its process")
        found = api.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        states = {one["name"]: one["state"]["type"] for one in found}
    assert set(states) >= {"snapshot", "plan", "train", "bundle", "gate", "publish", "promote"}
    assert set(states.values()) == {"COMPLETED"}
    assert names(workspace) == DONE


def test_away_until_the_run_has_ended_the_next_server_hears_of_it(workspace):
    """Longer than Prefect's own scheduler bears, and a run can be cancelled afterwards."""
    with standing(workspace) as there:
        there.start_server()
        there.start_scheduler()
        run = there.begin(**OPTIONS)
        in_training(workspace)
        pid = flow_process(run)
        there.server.kill()
        there.server.wait()
        until(lambda: "fusion#prod#1" in names(workspace), "promotion")
        until(lambda: lock.holder(workspace.root) is None, "free lock")
        began = time.monotonic()
        assert gone_within(pid, 100), there.said()  # it waits for 60 s
        assert "the server is away: it is told what this run came to when it is back" in there.said()
        assert "the server does not answer: the run goes on" in there.said()
        time.sleep(max(0, 200 - (time.monotonic() - began)))
        assert there.scheduler.poll() is None, there.said()

        there.start_server()
        assert there.ended(run)[:2] == ("COMPLETED", "Promoted")
        assert set(there.tasks(run).values()) <= {"Completed", "Cached"}
        assert names(workspace) == DONE
        until(lambda: not list(there.place.runs.iterdir()), "tidying up")

        second = there.begin(set={"train.lr": 0.7})
        until(lambda: told(workspace).count("train | epoch 1/") == 2, "second training")
        began = time.monotonic()
        there.api.ask(
            f"flow_runs/{second}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        )
        assert there.ended(second)[:2] == ("CANCELLED", "Cancelled")
        assert time.monotonic() - began < 20


def test_away_for_longer_than_a_heartbeat_a_run_that_lives_is_not_dead(tmp_path):
    workspace = judged_pipeline.make(tmp_path / "w", tmp_path / "scratch", pause_s=60.0)
    with standing(workspace) as there:
        there.start_server()
        there.start_scheduler()
        run = there.begin(**OPTIONS)
        until(lambda: "train | epoch 1/" in told(workspace), "training")
        time.sleep(40)  # until its second heartbeat
        there.server.kill()
        there.server.wait()
        time.sleep(100)
        there.start_server()
        time.sleep(15)
        assert there.state(run)[0] == "RUNNING"
        until(lambda: "fusion#prod#1" in names(workspace), "promotion")
        assert there.ended(run)[:2] == ("COMPLETED", "Promoted")


def test_a_failed_run_is_told_as_failed_when_the_server_is_back(workspace):
    (workspace.root / "step.py").write_text("import sys, time\ntime.sleep(8)\nsys.exit('it went wrong')\n")
    workspace.run("git", "commit", "--quiet", "-am", "broken")
    with standing(workspace) as there:
        there.start_server()
        there.start_scheduler()
        run = there.begin(**OPTIONS)
        until(lambda: "train | Running stage" in told(workspace), "training")
        pid = flow_process(run)
        there.server.kill()
        there.server.wait()
        assert gone_within(pid, 130), there.said()
        there.start_server()
        kind, name, message = there.ended(run)
    assert (kind, name) == ("FAILED", "Failed") and "it went wrong" in message
