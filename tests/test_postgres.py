"""`mmpipe ui` on PostgreSQL instead of SQLite: what it keeps is there after a restart."""

from datetime import UTC, datetime

import postgres
import pytest
import tiny_champion
from scheduling import running, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        postgres.programs() is None, reason="PostgreSQL is not installed (Debian: apt install postgresql)"
    ),
]


def test_runs_artifacts_and_schedules_are_there_after_a_restart(tmp_path):
    workspace = tiny_champion.make(tmp_path / "w", tmp_path / "scratch")
    with postgres.cluster() as url:
        environment = {"PREFECT_API_DATABASE_CONNECTION_URL": url}
        with running(workspace, environment=environment) as server:
            before = server.ended(server.start("retrain"))
            assert before["state"]["name"] == "Unchanged", before["state"]
            kept = server.artifacts(before["id"])
            assert "summary" in kept
            watch = server.ask("deployments/name/watch/watch")["id"]
            every = {"schedule": {"interval": 5}, "active": True}
            server.ask(f"deployments/{watch}/schedules", [every])
            assert until(lambda: server.names("Waiting"), "scheduled run")["Waiting"]["auto_scheduled"]
        with running(workspace, environment=environment) as server:
            now = datetime.now(UTC).isoformat()
            after = server.ask(f"flow_runs/{before['id']}")
            assert (after["state"]["name"], after["name"]) == ("Unchanged", before["name"])
            assert server.artifacts(before["id"]).keys() == kept.keys()
            schedules = server.ask("deployments/name/watch/watch")["schedules"]
            assert [one["schedule"]["interval"] for one in schedules if one["active"]] == [5.0]
            until(lambda: since(server, watch, now), "scheduled run after the restart")
    assert not list((workspace.root / ".mmpipe/prefect").glob("*.db"))
    assert url.split("@")[0] not in (workspace.root / ".mmpipe/logs/server.log").read_text()


def since(server, deployment, moment):
    """Runs of a deployment that were due after a moment and have ended."""
    due = {"expected_start_time": {"after_": moment}, "state": {"name": {"any_": ["Waiting"]}}}
    body = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": due}
    return server.ask("flow_runs/filter", body)
