"""A schedule every minute on the stamps demo: what each scheduled run did, and pictures of the UI.

    python benchmarks/scheduled.py --pictures /tmp/pictures     # 15 to 25 minutes on 2 cores

A workspace with 85 % of the stamps and a model of two epochs as its champion. Then, in turn: nothing changes;
the other stamps land; a person commits more epochs, then a useless learning rate, then an impossible one.
Prints a row for each run, the seconds of a run without news beside `dvc repro` without news, and the alarms.
"""

import argparse
import base64
import csv
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
LATER = 7
"""Every so-many-th stamp lands later."""
PATIENCE_S = 1200
DONE = ("Unchanged", "Refused", "Promoted", "Published", "Failed", "Crashed")
OPEN_TAB = """
const leaves = [...document.querySelectorAll('*')].filter(e => !e.children.length)
leaves.find(e => e.textContent.trim() === arguments[0]).click()
"""
Run = dict[str, Any]


def main() -> None:
    """Make the workspace, schedule, change things, look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, help="folder for screenshots of the UI; needs chromium")
    parser.add_argument("--epochs", type=int, default=40, help="of the better model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "w")
        later = prepare(root)
        plain = without_news(root)
        print(f"{len(later)} stamps land later\n", flush=True)
        with receiver() as (webhook, alarms), ui(root, webhook) as server:
            found = scenario(root, server, later, options.epochs)
            print_runs(found)
            ours = found["nothing changed"]["total_run_time"]
            print(f"\nno news: a scheduled run {ours:.1f} s, `dvc repro` {plain:.1f} s")
            until(lambda: alarms, "alarm")
            print("\nalarms: " + "; ".join(alarm["subject"] for alarm in alarms))
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                photograph(server, found, options.pictures, Path(scratch, "profile"))


def prepare(root: Path) -> list[dict[str, str]]:
    """A workspace of one's own with most of the stamps, its first version published; the rows left out."""
    execute(root.parent, "mmpipe", "init", root.name, "--corpus", "stamps")
    execute(root, "dvc", "repro", "--quiet", "fetch")
    corpus, own = root / "data/corpus", root / "data/raw/stamps"
    rows = list(csv.DictReader((corpus / "manifest.csv").open(encoding="utf-8")))
    now, later = [row for n, row in enumerate(rows) if n % LATER], rows[::LATER]
    write(own, now, corpus)
    kept = root.parent / "later"
    write(kept, later, corpus)
    text = (root / "params.yaml").read_text()
    text = text.replace("corpus: stamps", "corpus: none", 1)
    (root / "params.yaml").write_text(
        text.replace("data/corpus/manifest.csv", "data/raw/stamps/manifest.csv")
    )
    change(root, "train.epochs", 2)
    (root / "landing").mkdir()
    with (root / ".gitignore").open("a") as file:
        file.write("/landing/\n")
    execute(root, "dvc", "add", "--quiet", "data/raw")
    execute(root, "dvc", "repro", "--quiet")
    commit(root, "The first model")
    execute(root, "mmpipe", "publish")
    execute(root, "mmpipe", "promote", "fusion@v1.0.0")
    return later


def write(folder: Path, rows: list[dict[str, str]], corpus: Path) -> None:
    """A table and its files."""
    for row in rows:
        for name in (row["image"], row["audio"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / name, folder / name)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def change(root: Path, key: str, value: float) -> None:
    """Set one parameter of params.yaml."""
    from mmpipe.retrain import overrides

    overrides.apply(root, {key: value})


def commit(root: Path, message: str) -> None:
    """What a person does in the checkout."""
    execute(root, "git", "add", "--all")
    execute(root, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", message)


def scenario(root: Path, server: "Server", later: list[Any], epochs: int) -> dict[str, Run]:
    """Change one thing after the other, each time wait for the scheduled run that shows it."""
    wishes = root.parent / "wishes.json"
    wishes.write_text('{"landing": "landing"}')
    execute(root, "mmpipe", "schedule", "--cron", "* * * * *", "--options", str(wishes))
    found = {"nothing changed": server.wait("Unchanged")}
    drop(root)
    found[f"{len(later)} stamps landed"] = server.wait("Refused", "Promoted")
    for what, key, value, names in (
        (f"train.epochs: {epochs}", "train.epochs", epochs, ("Promoted", "Refused")),
        ("train.lr: 1e-7", "train.lr", 1e-7, ("Refused", "Promoted")),
        ("train.lr: 1e30", "train.lr", 1e30, ("Failed",)),
    ):
        change(root, key, value)
        commit(root, what)
        found[what] = server.wait(*names)
        if "lr" in what:
            change(root, "train.lr", 0.002)
    execute(root, "mmpipe", "schedule", "pause")
    return found


def drop(root: Path) -> None:
    """Files first, the table last."""
    source, goal = root.parent / "later", root / "landing"
    for name in ("images", "audio"):
        shutil.copytree(source / name, goal / name)
    shutil.copyfile(source / "manifest.csv", goal / ".manifest.csv")
    (goal / ".manifest.csv").rename(goal / "manifest.csv")


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

    def stages(self, run: Run) -> list[Run]:
        """Task runs of a run."""
        return self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})


def print_runs(found: dict[str, Run]) -> None:
    """A row a run."""
    print("| what changed | the run ended as | s | because |\n|---|---|---|---|")
    for what, run in found.items():
        state = run["state"]
        words = " ".join((state["message"] or "").split())[:140].replace("|", "/")
        print(f"| {what} | {state['name']} | {run['total_run_time']:.0f} | {words} |")


def without_news(root: Path) -> float:
    """Seconds of a `dvc repro` that has nothing to do: the median of three."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        execute(root, "dvc", "repro", "--quiet")
        times.append(time.monotonic() - began)
    return statistics.median(times)


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


def until(condition: Callable[[], Any], what: str) -> Any:
    """What it returns when it is true at last."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(1)
    sys.exit(f"within {PATIENCE_S} s: no {what}")


def execute(folder: Path, *command: str, check: bool = True) -> None:
    """A command in this environment; its words only where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True)
    if check and done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")


def environment() -> dict[str, str]:
    """This one, with the programs that lie beside this Python."""
    return {**os.environ, "PATH": PATH, "DVC_NO_ANALYTICS": "1"}


if __name__ == "__main__":
    main()
