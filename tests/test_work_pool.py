"""A worker of a process work pool in a clone of the workspace, by the commands of docs/scheduling.md."""

import os
import re
import signal

import pytest
import tiny_champion
import tiny_pipeline
from scheduling import processes, running, until
from workspace import REPOSITORY, Workspace

from flows import deploy
from mmpipe.retrain import lock, watching

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    made = tiny_champion.make(folder / "w", folder / "scratch")
    (made.root / "prefect.yaml").write_text((REPOSITORY / "prefect.yaml").read_text())
    made.run("dvc", "remote", "add", "--default", "store", str(folder / "store"))
    tiny_pipeline.commit(made)
    made.run("dvc", "push", "--quiet")
    return made


@pytest.fixture(scope="module")
def pool(workspace):
    """The server, and a clone with its worker, made as docs/scheduling.md says but for the address."""
    root = workspace.root.parent / "clone"
    workspace.run("git", "clone", "--quiet", str(workspace.root), str(root))
    clone = Workspace(root, {"PREFECT_HOME": str(root.parent / "home")})
    with running(workspace) as server:
        *setup, last = commands(workspace, server)
        clone.run("bash", "-euc", "\n".join(setup))
    assert last == "prefect worker start --pool mmpipe"
    with running(workspace) as server:
        exports = [line for line in commands(workspace, server) if line.startswith("export ")]
        worker = clone.start("bash", "-euc", "\n".join([*exports, f"exec {last}"]))
        try:
            yield server, clone
        finally:
            os.killpg(worker.pid, signal.SIGTERM)
            worker.communicate(timeout=60)
        assert processes(root) == []


def commands(workspace, server):
    """Those of the page, for this server and its credentials."""
    page = (REPOSITORY / "docs/scheduling.md").read_text().split("## More than one machine")[1]
    script = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    place = f"{workspace.root}/.mmpipe/prefect/credentials"
    changes = {"http://127.0.0.1:4200": server.url, ".mmpipe/prefect/credentials": place}
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    return script.strip().splitlines()


def runs(root):
    return sorted(path.name for path in (root / ".mmpipe/runs").glob("*.json"))


def test_a_retraining_runs_in_the_workers_clone(workspace, pool):
    server, clone = pool
    found = server.ask("deployments/filter", {})
    offered = {flow.name: "mmpipe" for flow, _, _ in deploy.OFFERED}
    assert {one["name"]: one["work_pool_name"] for one in found} == offered
    before = tiny_pipeline.status(clone)
    run = server.ended(server.start("retrain"))
    assert run["state"]["name"] == "Unchanged", run["state"]
    assert run["work_pool_name"] == "mmpipe"
    tasks = server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert {one["name"] for one in tasks} == {"snapshot", "plan", *tiny_champion.STAGES}
    assert len(runs(clone.root)) == 1 and runs(workspace.root) == []
    assert tiny_pipeline.status(clone) == before
    until(lambda: "fusion@v1.0.0 is this very model" in server.said(run["id"]), "end of its log")


def test_cancelled_it_leaves_nothing(pool):
    server, clone = pool
    tiny_pipeline.behave(clone, pause_s=60)
    run = server.start("retrain")
    until(lambda: list((clone.root / ".mmpipe/runs").glob("*/data/features.txt")), "running stage")
    server.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert server.ended(run)["state"]["type"] == "CANCELLED"
    until(lambda: lock.holder(clone.root) is None, "free lock")
    assert not [path for path in (clone.root / ".mmpipe/runs").iterdir() if path.name.isdigit()]


def test_the_scheduler_of_the_server_takes_nothing_of_the_pool(pool, workspace):
    server, clone = pool
    tiny_pipeline.behave(clone)
    ended = [server.ended(server.start("watch")) for _ in range(3)]
    assert {run["state"]["name"] for run in ended} == {"Waiting"}
    assert not (workspace.root / watching.STATE).exists()
    assert (clone.root / watching.STATE).is_file()
    assert {one["work_pool_name"] for one in server.ask("deployments/filter", {})} == {"mmpipe"}
