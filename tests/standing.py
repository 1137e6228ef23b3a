"""A server and a scheduler that nobody watches: a test starts, kills and starts them again, one by one."""

import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import scheduling
from scheduling import Server, free_port, processes

from flows import server as supervisor
from flows.settings import Place, client, server
from mmpipe.processes import alive
from mmpipe.retrain import apart
from mmpipe.retrain.children import kill

until = partial(scheduling.until, patience_s=600)
"""Long proofs share a machine with others."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_MARK = apart.MARK.encode()


class Standing:
    """`api`: what the test asks the server."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.place = Place(workspace.root)
        self.place.make()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = self.scheduler = self.api = None

    def start_server(self):
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        command = ["-P", "-m", "uvicorn", "--factory", supervisor._APP, *address]
        self.server = self._start(command, server(self.place, self.url), "server.log")
        until(lambda: self._is_there("health"), "server")
        self.api = Server(self.workspace.root, self.port)

    def start_scheduler(self):
        self.scheduler = self._start(["-m", "flows.deploy"], client(self.place, self.url), "scheduler.log")
        until(lambda: self._is_there("deployments/name/predict/predict"), "scheduler")

    def begin(self, flow="retrain", **options):
        """A run of a deployment, as from the UI; its id."""
        return begin(self.api, flow, **options)

    def state(self, run):
        found = self.api.ask(f"flow_runs/{run}")["state"]
        return found["type"], found["name"], found["message"]

    def ended(self, run):
        """Its state when it is final."""
        until(lambda: self.state(run)[0] in FINAL, "final state")
        return self.state(run)

    def tasks(self, run):
        """The task runs: name → name of its state."""
        found = self.api.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {one["name"]: one["state"]["name"] for one in found}

    def said(self):
        """All that the scheduler and its runs printed."""
        return (self.place.logs / "scheduler.log").read_text()

    def _is_there(self, path):
        return supervisor.request(self.place, f"{self.url}/api/{path}") == 200

    def _start(self, arguments, environment, log):
        with (self.place.logs / log).open("ab") as file:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=environment,
                cwd=self.workspace.root,
                stdout=file,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def standing(workspace):
    """One without a server yet; at the end nothing of it lives."""
    found = Standing(workspace)
    try:
        yield found
    finally:
        for process in (found.scheduler, found.server):
            if process is not None:
                process.kill()
                process.wait()
        kill([int(one.name) for one in processes(workspace.root)])


def begin(api, flow="retrain", **options):
    deployment = api.ask(f"deployments/name/{flow}/{flow}")
    body = {"parameters": {"options": options} if options else {}, "state": {"type": "SCHEDULED"}}
    return api.ask(f"deployments/{deployment['id']}/create_flow_run", body)["id"]


def flow_process(run):
    """The process of a flow run, while it lives."""
    wanted = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if b"prefect.engine" in (one / "cmdline").read_bytes() and wanted in (
                one / "environ"
            ).read_bytes().split(b"\0"):
                return int(one.name)
        except OSError:
            continue
    return None


def lives(pid):
    return pid is not None and alive(pid)


def gone_within(pid, seconds):
    """Whether a process ends within so many seconds."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.2)
    return not alive(pid)


def marked(workspace):
    """The processes that runs started: pid → command line."""
    found = {}
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "environ").read_bytes().split(b"\0")
            command = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(word.startswith(_MARK + b"=" + str(workspace.root).encode()) for word in words) and command:
            found[int(one.name)] = command
    return found


def told(workspace):
    """What the runs' own logs say."""
    logs = (workspace.root / ".mmpipe/runs").glob("*.log")
    return "".join(path.read_text() for path in logs)


def names(workspace):
    """Branches and tags."""
    return workspace.run("git", "for-each-ref", "--format=%(refname:short)").stdout.split()
