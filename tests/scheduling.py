"""`mmpipe ui` on a test's workspace, what a test asks of its server, and a receiver of its alarms."""

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

PATIENCE_S = 150
COMMAND = [sys.executable, "-c", "from mmpipe.cli import run; run()"]


class Server:
    """What a test asks of the server: by HTTP, as the UI does."""

    def __init__(self, root, port, pid=None):
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self.credentials = (root / ".mmpipe/prefect/credentials").read_text().strip()
        self.token = self.ask("csrf-token?client=test")["token"]

    def ask(self, path, body=None, *, method=None):
        """The answer's JSON; with a body it is a POST."""
        token = base64.b64encode(self.credentials.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        if body is not None or method:
            headers |= {"Prefect-Csrf-Token": self.token, "Prefect-Csrf-Client": "test"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", data, headers, method=method)
        for _ in range(20):  # SQLite is locked for a moment: Prefect's own clients try again too
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                with error:
                    assert error.code == 503, f"{path}: {error.code} {error.read()[:500]!r}"
            time.sleep(0.5)
        raise AssertionError(f"{path}: 503 again and again")

    def names(self, *wanted):
        """The runs that have ended, by the name of their state: name → run."""
        body = {"flow_runs": {"state": {"name": {"any_": list(wanted)}}}}
        return {run["state"]["name"]: run for run in self.ask("flow_runs/filter", body)}

    def start(self, flow, **parameters):
        """A run of a deployment, as *Custom run* in the UI starts it; its id."""
        deployment = self.ask(f"deployments/name/{flow}/{flow}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.ask(f"deployments/{deployment['id']}/create_flow_run", body)["id"]

    def ended(self, run):
        """The run, once it has ended."""
        ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        def over():
            found = self.ask(f"flow_runs/{run}")
            return found if found["state"]["type"] in ends else None

        return until(over, f"end of run {run}")

    def said(self, run):
        """All that a run has in its log."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.ask("logs/filter", body))

    def artifacts(self, run):
        """{key: artifact} of a run."""
        found = self.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {one["key"]: one for one in found}

    def status_without(self, path, headers):
        """The status of a request without the credentials."""
        request = urllib.request.Request(f"{self.url}/api/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def until(condition, what, *, patience_s=PATIENCE_S, every_s=0.3):
    """What `condition` gives once it is true."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(every_s)
    raise AssertionError(f"within {patience_s} s: no {what}")


@contextmanager
def receiver():
    """A receiver of alarms on loopback: its URL and what came."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")  # as Slack answers

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


def children(pid):
    """What a process has started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return found


def command_line(pid):
    """The words that a process was started with; none once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


@contextmanager
def running(workspace, *flags, environment=None):
    """`mmpipe ui` until the context ends, by SIGTERM; then nothing of it may be left."""
    port = free_port()
    with (workspace.root / ".mmpipe-ui.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "ui", "--port", str(port), "--no-browser", *flags],
            cwd=workspace.root,
            stdout=log,
            stderr=log,
            env={**workspace._env(), **(environment or {})},
        )
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in said(workspace), "server")
        assert process.poll() is None, said(workspace)
        yield Server(workspace.root, port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, said(workspace)
    assert processes(workspace.root) == []


def said(workspace):
    """All that `mmpipe ui` has printed."""
    return (workspace.root / ".mmpipe-ui.log").read_text()


def schedule(*arguments):
    """The command line of `mmpipe schedule`."""
    return [*COMMAND, "schedule", *arguments]
