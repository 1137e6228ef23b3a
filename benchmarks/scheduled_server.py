"""The server of `scheduled.py`: `mmpipe ui`, asked as its UI asks it, its pages, and a receiver of alarms."""

import base64
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from scheduled_workspace import environment

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_S = 1200
DONE = ("Unchanged", "Refused", "Promoted", "Published", "Failed", "Crashed")
OPEN_TAB = """
const leaves = [...document.querySelectorAll('*')].filter(e => !e.children.length)
leaves.find(e => e.textContent.trim() === arguments[0]).click()
"""
Run = dict[str, Any]


class Server:
    """The API of `mmpipe ui`, asked as the UI asks it."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        self.credentials = (root / ".mmpipe/prefect/credentials").read_text().strip()
        user, _, password = self.credentials.partition(":")
        self.client = httpx.Client(base_url=f"{url}/api/", auth=(user, password), timeout=60, trust_env=False)
        token = self.client.get("csrf-token", params={"client": "demo"}).json()["token"]
        self.client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "demo"})
        self.seen: set[str] = set()

    def wait(self, *names: str) -> Run:
        """The next run that ends with one of these states; all that ended before it count as seen."""
        return until(lambda: self._next(names), " or ".join(names))

    def ask(self, path: str, body: dict[str, Any]) -> list[Run]:
        """Objects that fit a filter."""
        answer = self.client.post(path, json=body)
        return answer.json() if answer.status_code == 200 else []  # SQLite is locked now and then

    def _next(self, names: tuple[str, ...]) -> Run | None:
        body = {"flow_runs": {"state": {"name": {"any_": list(DONE)}}}, "sort": "START_TIME_ASC"}
        for run in self.ask("flow_runs/filter", body):
            if run["id"] in self.seen:
                continue
            self.seen.add(run["id"])
            if run["state"]["name"] in names:
                return run
            print(f"(in between: {run['name']} {run['state']['name']})", flush=True)
        return None


@contextmanager
def ui(root: Path, webhook: str) -> Iterator[Server]:
    """`mmpipe ui` until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mmpipe", "ui", "--port", str(port), "--no-browser", "--webhook", webhook]
    with (root.parent / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, env=environment(), stdout=log, stderr=log)
    try:
        until(lambda: "Ctrl-C" in (root.parent / "ui.log").read_text(), "server")
        yield Server(root, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A receiver of alarms on loopback: its URL and what came."""
    came: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/alarm", came
    server.shutdown()


def photograph(server: Server, found: dict[str, Run], folder: Path, profile: Path) -> None:
    """The pages that an operator looks at."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import browser

    best = next((run for run in found.values() if run["state"]["name"] == "Promoted"), None)
    assert best is not None, "no run was promoted"
    with browser.chromium(profile) as window:
        window.size(1500, 1100)
        window.open(server.url)
        secret = base64.b64encode(server.credentials.encode()).decode()
        window.run("localStorage.setItem('prefect-password', arguments[0])", secret)
        pages = {
            "runs": "/runs",
            "graph": f"/runs/flow-run/{best['id']}",
            "failed": f"/runs/flow-run/{found[list(found)[-1]]['id']}",
            "form": f"/deployments/deployment/{best['deployment_id']}/run",
            "automations": "/automations",
        }
        kept = server.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [best["id"]]}}})
        pages |= {
            f"artifact-{one['key']}": f"/artifacts/artifact/{one['id']}"
            for one in kept
            if one["key"] in ("summary", "metrics", "gate", "confusion", "model-version")
        }
        for name, path in pages.items():
            window.open(server.url + path)
            time.sleep(6)
            window.picture(folder / f"{name}.png")
        window.open(f"{server.url}/runs/flow-run/{best['id']}")
        for tab in ("Task Runs", "Artifacts"):
            time.sleep(6)
            window.run(OPEN_TAB, tab)
            time.sleep(6)
            window.picture(folder / f"{tab.lower().replace(' ', '-')}.png")
    print(f"\n{len(pages) + 2} pictures in {folder}")


def until(condition: Callable[[], Any], what: str) -> Any:
    """What it returns when it is true at last."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(1)
    sys.exit(f"within {PATIENCE_S} s: no {what}")
