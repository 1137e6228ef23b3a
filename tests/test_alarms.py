"""Every alarm for real, at two receivers: the webhook, and a block of another kind that a person has made."""

import os
import signal
import time
from pathlib import Path

import pytest
import tiny_bundle
import tiny_champion
import tiny_pipeline
from scheduling import children, command_line, receiver, running, until

from flows import alarms
from mmpipe.retrain.children import marked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The workspace, the server, what came at the webhook and what at the Mattermost block."""
    folder = tmp_path_factory.mktemp("alarms")
    workspace = tiny_champion.make(folder / "w", folder / "scratch")
    with receiver() as (webhook, posted), receiver() as (chat, chatted):
        with running(workspace) as server:
            make_block(server, int(chat.split(":")[2].split("/")[0]))
        with running(workspace, "--webhook", webhook) as server:
            yield workspace, server, posted, chatted


def make_block(server, port):
    """As a person does in the UI: Blocks, Mattermost Webhook, the name, the address."""
    kind = server.ask("block_types/slug/mattermost-webhook")["id"]
    schemas = server.ask("block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    data = {"hostname": "127.0.0.1", "port": port, "secure": False, "token": "abcdefghijklmnopqrstuvwx"}
    body = {"name": alarms.BLOCK, "data": data, "block_type_id": kind, "block_schema_id": schemas[0]["id"]}
    server.ask("block_documents/", body)


def heard(told, name, count=1):
    """Both receivers have heard so often of a state by this name; the last texts."""
    _, _, posted, chatted = told
    mine = [one for one in posted if one["subject"].endswith(f": {name}")]
    theirs = [one for one in chatted if f": {name}" in one["text"]]
    return (mine[-1], theirs[-1]) if len(mine) >= count and len(theirs) >= count else None


def test_a_run_that_fails(told):
    workspace, server, _, _ = told
    tiny_pipeline.behave(workspace, exit_status=3)
    run = server.ended(server.start("retrain"))
    assert run["state"]["name"] == "Failed"
    mine, theirs = until(lambda: heard(told, "Failed"), "alarm of a failed run")
    assert mine["subject"] == f"mmpipe: retrain {run['name']}: Failed"
    for text in (mine["text"], theirs["text"]):
        assert "it went wrong" in text and f"{server.url}/" in text and run["id"] in text


def test_a_run_whose_process_is_killed(told):
    workspace, server, _, _ = told
    tiny_pipeline.behave(workspace, pause_s=60)
    run = server.start("retrain")
    until(lambda: list((workspace.root / ".mmpipe/runs").glob("*/data/features.txt")), "running stage")
    os.kill(engine(run), signal.SIGKILL)
    assert server.ended(run)["state"]["name"] == "Crashed"
    mine, _ = until(lambda: heard(told, "Crashed"), "alarm of a crashed run")
    assert "SIGKILL" in mine["text"]


def engine(run):
    """The process of a flow run: of all that have its mark, the one that no other of them started."""
    pids = marked("PREFECT__FLOW_RUN_ID", run)
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    [first] = [pid for pid in pids if parents[pid] not in pids]
    return first


def test_a_gate_that_refuses_again_and_again(told):
    """The same model against itself is never better; only the third refusal is told."""
    workspace, server, posted, _ = told
    tiny_pipeline.behave(workspace)
    for number in range(1, alarms.REFUSALS + 1):
        run = server.ended(server.start("retrain", options={"force_run": True, "publish": "no"}))
        assert run["state"]["name"] == "Refused", run["state"]
        if number < alarms.REFUSALS:
            time.sleep(2)  # an alarm comes within one
            assert not [one for one in posted if one["subject"].endswith(": Refused")], number
    mine, _ = until(lambda: heard(told, "Refused"), "alarm of refusals")
    assert "is not shown to be better" in mine["text"]


def test_samples_that_have_drifted(told):
    workspace, server, _, _ = told
    tiny_champion.drop(workspace.root / "landing", seed=8, count=30, labels=(tiny_bundle.LABELS[0],))
    run = server.ended(server.start("drift-check", predictions=False))
    assert run["state"]["name"] == "Drifted", run["state"]
    mine, _ = until(lambda: heard(told, "Drifted"), "alarm of a drift")
    assert "new samples differ in labels" in mine["text"]


def test_a_run_that_nobody_takes(told):
    """The scheduler hangs: the server marks the run as late, and it is made when the scheduler is back."""
    _, server, _, _ = told
    [scheduler] = [pid for pid in children(server.pid) if "flows.deploy" in command_line(pid)]
    os.kill(scheduler, signal.SIGSTOP)
    try:
        run = server.start("watch")
        until(lambda: heard(told, "Late"), "alarm of a late run")
        assert server.ask(f"flow_runs/{run}")["state"]["name"] == "Late"
    finally:
        os.kill(scheduler, signal.SIGCONT)
    assert server.ended(run)["state"]["type"] == "COMPLETED"
