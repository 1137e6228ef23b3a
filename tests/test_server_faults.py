"""Cancelled, or killed with -9, at ten moments each: the next run comes to what an unbroken one does.

MMPIPE_FAULTS=faults.md pytest -m slow tests/test_server_faults.py    # also writes what was measured
"""

import hashlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from datetime import datetime
from pathlib import Path

import judged_pipeline
import pytest
from scheduling import Server, free_port, processes
from standing import FINAL, begin, flow_process, lives, marked, names, told, until

from mmpipe.registry import tagged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
OPTIONS = {"set": {"train.lr": 0.5}}
MOMENTS = (
    "snapshot",
    "plan",
    "features",
    "epoch 1",
    "epoch 2",
    "bundle",
    "gate",
    "publish",
    "tag",
    "stage tag",
)
FAULTS = {
    "cancel": {"CANCELLED"},
    "stage": {"FAILED"},
    "flow run": {"CRASHED"},
    "scheduler": {"CRASHED"},
    "server": {"COMPLETED"},
    "everything": {"CRASHED"},
}
"""Fault → the states that the run may end in; one that had done all by then is COMPLETED."""
SERVED = 3
"""Processes that stay: `mmpipe ui`, the server, the scheduler."""


class Patient(Server):
    """Killed, the server is there again after some seconds."""

    def ask(self, path, body=None, *, method=None):
        def answer():
            try:
                return [super(Patient, self).ask(path, body, method=method)]
            except (urllib.error.URLError, ConnectionError, http.client.HTTPException):
                return []

        return until(answer, f"answer to {path}", patience_s=60)[0]


class Ui:
    """`mmpipe ui` of one workspace, always at the same port."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.port = free_port()
        self.process = None

    def start(self):
        command = [sys.executable, "-c", "from mmpipe.cli import run; run()"]
        flags = ["ui", "--port", str(self.port), "--no-browser"]
        log = self.workspace.root / ".mmpipe-ui.log"
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, *flags],
                cwd=self.workspace.root,
                stdout=file,
                stderr=file,
                env=self.workspace._env(),
            )
        until(lambda: self.process.poll() is not None or "Ctrl-C" in log.read_text(), "server")
        assert self.process.poll() is None, log.read_text()
        self.api = Patient(self.workspace.root, self.port)

    def pid(self, words):
        """The child with these words in its command line."""
        found = [one for one in processes(self.workspace.root) if words in (one / "cmdline").read_bytes()]
        return int(found[0].name) if found else None

    def state(self, run):
        return self.api.ask(f"flow_runs/{run}")["state"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    workspace = judged_pipeline.make(folder / "w", folder / "scratch")
    edit(workspace)
    found = Ui(workspace)
    found.start()
    yield found
    found.stop()
    assert processes(workspace.root) == []


@pytest.fixture(scope="module")
def whole(ui):
    """What an unbroken run comes to."""
    fresh(ui.workspace)
    assert ended(ui, begin(ui.api, **OPTIONS))["name"] == "Promoted"
    return result(ui.workspace)


def edit(workspace):
    """A person is at work: one file is edited, one staged, one is new."""
    (workspace.root / "source.txt").write_text("other data\n")
    (workspace.root / "staged.txt").write_text("staged\n")
    workspace.run("git", "add", "staged.txt")
    (workspace.root / "new.txt").write_text("new\n")


def fresh(workspace):
    """As if nothing had ever run here: no version, no branch of a run, nothing in DVC's cache."""
    for name in names(workspace):
        if name != "main":
            words = ("branch", "-D") if name.startswith("retrain/") else ("tag", "-d")
            workspace.run("git", *words, name)
    for path in (".dvc/cache", ".mmpipe/runs"):
        shutil.rmtree(workspace.root / path, ignore_errors=True)


def idle(ui):
    """Nothing runs: what a test before this one may have left is cancelled."""
    found = ui.api.ask(
        "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
    )
    for run in found:
        strike(ui, "cancel", run["id"])
        ended(ui, run["id"])


def result(workspace):
    """What the version holds, and that DVC's cache is sound."""
    version = tagged.read(workspace.root).resolve("fusion#prod")
    cache = workspace.root / ".dvc/cache/files/md5"
    objects = [path for path in cache.glob("*/*") if path.is_file()]
    assert objects
    for path in objects:
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert found == f"{path.parent.name}{path.name}".removesuffix(".dir"), path
    tags = [name for name in names(workspace) if name.startswith("fusion")]
    shown = [workspace.run("git", "show", f"{version.tag}:dvc.lock").stdout]
    tree = workspace.run("git", "rev-parse", f"{version.tag}^{{tree}}").stdout.strip()
    return {"digest": version.bundle_sha256, "lock": shown, "tree": tree, "tags": tags}


def checkout(workspace):
    """All that a person has: HEAD, index, status, and every file's hash."""
    ask = [
        ("rev-parse", "HEAD"),
        ("symbolic-ref", "HEAD"),
        ("ls-files", "--stage"),
        ("status", "--porcelain"),
    ]
    ask += [("stash", "list")]
    ours = {".git", ".mmpipe", ".mmpipe-ui.log", "cache", "tmp"}
    files = {
        path.relative_to(workspace.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workspace.root.rglob("*"))
        if path.is_file() and not ours & set(path.relative_to(workspace.root).parts)
    }
    assert len(files) > 10
    return [workspace.run("git", *words).stdout for words in ask], files


def come(workspace, moment):
    """Whether it is the moment."""
    if moment in ("snapshot", "plan", "publish"):
        return any(f"retrain.step {moment} " in command for command in marked(workspace).values())
    if moment == "features":
        return any(command.endswith("step.py features ") for command in marked(workspace).values())
    if moment == "gate":
        return any(" gate --json" in command for command in marked(workspace).values())
    if moment == "bundle":
        return "bundle | Running stage" in told(workspace)
    if moment.startswith("epoch"):
        return f"train | {moment}/" in told(workspace)
    tag = {"tag": "fusion@v1.0.0", "stage tag": "fusion#prod#1"}[moment]
    return (workspace.root / ".git/refs/tags" / tag).exists()


def strike(ui, fault, run):
    """Do it."""
    if fault == "cancel":
        ui.api.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        return
    if fault == "stage":
        found = marked(ui.workspace)
        stages = [pid for pid, command in found.items() if "step.py" in command] or list(found)
        victims = stages[:1]
    elif fault == "everything":
        victims = [ui.process.pid, *(int(one.name) for one in processes(ui.workspace.root))]
        victims += marked(ui.workspace)
    else:
        words = {"flow run": b"prefect.engine", "scheduler": b"flows.deploy", "server": b"uvicorn"}[fault]
        victims = [ui.pid(words)]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, TypeError):
            continue
    if fault == "everything":
        ui.process.wait()


def ended(ui, run):
    """The final state of a run, and that its process is gone then."""
    until(lambda: ui.state(run)["type"] in FINAL, "final state")
    until(lambda: not lives(flow_process(run)), "end of the process")
    return ui.state(run)


def took(ui, run):
    """Seconds from the start of a run to its worktree: it has the lock, and what a dead one left is gone."""
    found = ui.api.ask(f"flow_runs/{run}")
    body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    lines = until(
        lambda: [x for x in ui.api.ask("logs/filter", body) if x["message"].startswith("prepare |")],
        "log line",
    )
    moments = [
        datetime.fromisoformat(text.replace("Z", "+00:00"))
        for text in (lines[0]["timestamp"], found["start_time"])
    ]
    return (moments[0] - moments[1]).total_seconds()


def following(ui, whole, before):
    """The next run comes to what an unbroken one does, and nothing else is left of the broken one."""
    workspace = ui.workspace
    run = begin(ui.api, **OPTIONS)
    state = ended(ui, run)
    assert state["type"] == "COMPLETED", state
    assert result(workspace) == whole
    assert checkout(workspace) == before
    until(lambda: len(processes(workspace.root)) == SERVED, "end of all processes")
    assert marked(workspace) == {}
    assert workspace.run("git", "worktree", "list").stdout.count("\n") == 1
    assert not [path for path in (workspace.root / ".mmpipe/runs").iterdir() if path.name.isdigit()]
    return took(ui, run), state["name"]


ROUNDS = [(fault, moment) for moment in MOMENTS for fault in FAULTS]
ROUNDS.remove(("stage", "stage tag"))  # nothing but the run itself is left to be killed then


@pytest.mark.parametrize(("fault", "moment"), ROUNDS)
def test_whatever_breaks_the_next_run_comes_to_the_same(ui, whole, fault, moment):
    workspace = ui.workspace
    idle(ui)
    fresh(workspace)
    before = checkout(workspace)
    run = begin(ui.api, **OPTIONS)
    until(lambda: come(workspace, moment), moment, every_s=0.02)  # some last no longer than a process starts
    began = time.monotonic()
    strike(ui, fault, run)
    if fault == "everything":
        until(lambda: not processes(workspace.root) and not marked(workspace), "silence")
        ui.start()
        began = time.monotonic()  # of the server's life
    state = ended(ui, run)["type"]
    left_running = time.monotonic() - began
    assert checkout(workspace) == before
    assert state in FAULTS[fault] or (state == "COMPLETED" and moment in ("tag", "stage tag"))
    lock_s, name = following(ui, whole, before)
    note(fault, moment, state, left_running, lock_s, name)
    assert left_running < 100
    assert lock_s < 5


def note(fault, moment, state, *figures):
    """A line of the table."""
    if path := os.environ.get("MMPIPE_FAULTS"):
        left_running, lock_s, name = figures
        cells = [fault, moment, state.capitalize(), f"{left_running:.1f}", f"{lock_s:.1f}", name]
        with Path(path).open("a") as file:
            file.write(f"| {' | '.join(cells)} |\n")
