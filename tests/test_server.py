"""The whole of it once, for real: `mmpipe ui`, a schedule, its runs, their artifacts, and a clean end."""

import json

import pytest
import tiny_pipeline
from scheduling import children, command_line, receiver, running, schedule, until

from mmpipe.retrain import lock


@pytest.fixture
def workspace(tmp_path):
    return tiny_pipeline.make(tmp_path / "w", tmp_path / "scratch")


@pytest.mark.timeout(600)
def test_a_scheduled_run_comes_shows_and_ends(workspace):
    (workspace.root / ".gitignore").write_text("/data/\n/models/\n/.mmpipe/\n/.mmpipe-ui.log\n")
    tiny_pipeline.behave(workspace, pause_s=3)
    before = tiny_pipeline.status(workspace)
    with receiver() as (webhook, alarms), running(workspace, "--webhook", webhook) as server:
        assert server.status_without("admin/version", {}) == 401
        assert server.status_without("admin/version", {"Authorization": "Basic bW1waXBlOng="}) == 401
        deployment = server.ask("deployments/name/retrain/retrain")
        every = {"schedule": {"interval": 5}, "active": True}
        server.ask(f"deployments/{deployment['id']}/schedules", [every])
        seen = until(lambda: server.names("Unchanged"), "scheduled run that did its work")["Unchanged"]
        assert seen["auto_scheduled"]
        lines = [" ".join(command_line(pid)) for pid in (server.pid, *children(server.pid))]
        assert len(lines) > 2 and not [line for line in lines if webhook in line]
        tiny_pipeline.behave(workspace, exit_status=3)  # the next run fails, and somebody is told
        skipped = until(lambda: server.names("Skipped"), "run that found another in progress")["Skipped"]
        assert "in progress" in skipped["state"]["message"] or "began at" in skipped["state"]["message"]
        stages = server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [seen["id"]]}}})
        names = {run["name"] for run in stages}
        assert names == {"snapshot", "plan", *tiny_pipeline.STAGES}
        kept = server.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [seen["id"]]}}})
        assert {"summary", "progress-train"} <= {one["key"] for one in kept}
        told = until(lambda: [one for one in alarms if "Failed" in one["subject"]], "alarm")
        assert "it went wrong" in told[0]["text"] and "Flow run encountered" not in told[0]["text"]
        listed = json.loads(workspace.run(*schedule("list", "--json")).stdout)
        assert [one["when"] for one in listed if one["active"]] == ["every 5 s"]
        assert {one["flow"] for one in listed} == {"retrain", "watch", "drift-check", "reproduce-champion"}
        paused = json.loads(workspace.run(*schedule("pause", "--json")).stdout)
        assert paused and not any(one["active"] for one in paused)
    assert lock.holder(workspace.root) is None
    assert tiny_pipeline.status(workspace) == before
    assert "start it in this folder: mmpipe ui" in workspace.run(*schedule("list"), check=False).stderr
