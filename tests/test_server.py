"""The whole of it once, for real: `mmpipe ui`, a schedule, its runs, their artifacts, and a clean end."""

import base64
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import tiny_pipeline

from mmpipe.retrain import lock

PATIENCE_S = 150


class Server:
    """What the test asks of the server: by HTTP, as the UI does."""

    def __init__(self, root, port):
        self.url = f"http://127.0.0.1:{port}"
        self.credentials = (root / ".mmpipe/prefect/credentials").read_text().strip()
        self.token = self.ask("csrf-token?client=test")["token"]

    def ask(self, path, body=None):
        token = base64.b64encode(self.credentials.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        if body is not None:
            headers |= {"Prefect-Csrf-Token": self.token, "Prefect-Csrf-Client": "test"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", data, headers)
        for _ in range(20):  # SQLite is locked for a moment: Prefect's own clients try again too
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    assert error.code == 503, f"{path}: {error.code} {error.read()[:500]!r}"
            time.sleep(0.5)
        raise AssertionError(f"{path}: 503 again and again")

    def names(self, *wanted):
        """The runs that have ended, by the name of their state: name → message."""
        body = {"flow_runs": {"state": {"name": {"any_": list(wanted)}}}}
        return {run["state"]["name"]: run for run in self.ask("flow_runs/filter", body)}

    def status_without(self, path, headers):
        request = urllib.request.Request(f"{self.url}/api/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"within {PATIENCE_S} s: no {what}")


@contextmanager
def receiver():
    """A receiver of alarms on loopback: its URL and what came."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alarm", came
    finally:
        server.shutdown()
        server.server_close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(root):
    """All that run in the workspace or were started for it."""
    return [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _belongs(pid, str(root))]


def _belongs(process, root):
    try:
        here = (process / "cwd").readlink()
    except OSError:
        return False
    return f"{here}/".startswith(f"{root}/")


@pytest.fixture
def workspace(tmp_path):
    return tiny_pipeline.make(tmp_path / "w", tmp_path / "scratch")


@contextmanager
def running(workspace, *flags):
    """`mmpipe ui` until the context ends, by SIGTERM; then nothing of it may be left."""
    port = free_port()
    command = [sys.executable, "-c", "from mmpipe.cli import run; run()"]
    arguments = ["ui", "--port", str(port), "--no-browser", *flags]
    with (workspace.root / ".mmpipe-ui.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments], cwd=workspace.root, stdout=log, stderr=log, env=workspace._env()
        )
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in said(workspace), "server")
        assert process.poll() is None, said(workspace)
        yield Server(workspace.root, port)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, said(workspace)
    assert processes(workspace.root) == []


def said(workspace):
    return (workspace.root / ".mmpipe-ui.log").read_text()


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
        tiny_pipeline.behave(workspace, exit_status=3)  # the next run fails, and somebody is told
        skipped = until(lambda: server.names("Skipped"), "run that found another in progress")["Skipped"]
        assert "in progress" in skipped["state"]["message"] or "began at" in skipped["state"]["message"]
        stages = server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [seen["id"]]}}})
        names = {run["name"] for run in stages}
        assert names == {"snapshot", "plan", *tiny_pipeline.STAGES}
        kept = server.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [seen["id"]]}}})
        assert {"summary", "progress-train"} <= {one["key"] for one in kept}
        told = until(lambda: [one for one in alarms if "Failed" in one["subject"]], "alarm")
        assert "it went wrong" in told[0]["text"]
        listed = json.loads(workspace.run(*schedule("list", "--json")).stdout)
        assert [one["when"] for one in listed if one["active"]] == ["every 5 s"]
        paused = json.loads(workspace.run(*schedule("pause", "--json")).stdout)
        assert paused and not any(one["active"] for one in paused)
    assert lock.holder(workspace.root) is None
    assert tiny_pipeline.status(workspace) == before
    assert "start it in this folder: mmpipe ui" in workspace.run(*schedule("list"), check=False).stderr


def schedule(*arguments):
    return [sys.executable, "-c", "from mmpipe.cli import run; run()", "schedule", *arguments]
