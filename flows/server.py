"""`mmpipe ui`: the server and the scheduler as children that are watched, restarted and ended with it."""

import argparse
import base64
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flows import reports
from flows.settings import HOST, WEBHOOK, Place, client, server
from mmpipe.errors import InvalidError, LockedError, MmpipeError, NotFoundError, TemporaryError
from mmpipe.files import write_bytes
from mmpipe.paths import PIPELINE
from mmpipe.retrain import lock
from mmpipe.retrain.children import kill, members
from mmpipe.stages.process import Terminated, end_with_parent, run

START_S = 90.0
"""For the server to answer, its first database included."""
PATIENCE_S = 20.0
"""From SIGTERM to SIGKILL: a run that is cancelled cleans up within 10 s."""
RESTARTS = 5
WITHIN_S = 600.0
MAX_LOG = 10_000_000
_APP = "prefect.server.api.server:create_app"


@dataclass
class Child:
    """One program with its log; `ended` are the times at which it went away by itself."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ended: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start it in a session of its own: a Ctrl-C is for the supervisor, which passes it on."""
        if self.log.exists() and self.log.stat().st_size > MAX_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def check(self, busy: Callable[[], bool]) -> None:
        """Start it again if it went away. Raises MmpipeError `server-down` when that does not help.

        It does not give up while a run is in progress (`busy`): that would end the run, too.
        """
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        self.ended = [moment for moment in self.ended if now - moment < WITHIN_S] + [now]
        if len(self.ended) > RESTARTS and not busy():
            what = f"ended {len(self.ended)} times, last with {self.process.returncode}"
            raise MmpipeError("server-down", f"{self.name} {what}", where=str(self.log))
        time.sleep(min(2 ** len(self.ended), 30) / 2)
        self.start()

    def stop(self) -> None:
        """SIGTERM; runs that it has started clean up after themselves; what is left then is killed."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        until = time.monotonic() + PATIENCE_S
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)
        while members(self.process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        kill(members(self.process.pid))
        self.process.wait()


def main() -> None:
    """Start all, say where it is, watch it until Ctrl-C or SIGTERM, end all."""
    wishes = _wishes()
    place = Place(Path.cwd())
    if not (place.root / PIPELINE).is_file():
        raise NotFoundError("workspace", f"has no {PIPELINE}", where=str(place.root))
    _check_names(place.root)
    place.make()
    only = _only_one(place)
    _check_port(wishes.port)
    url = f"http://{HOST}:{wishes.port}"
    children: list[Child] = []
    try:
        _up(place, url, wishes, children)
        while True:
            time.sleep(1.0)
            for child in children:
                child.check(lambda: lock.holder(place.root) is not None)
    except (KeyboardInterrupt, Terminated):
        _say("stopping")
    finally:
        for child in reversed(children):
            child.stop()
        place.address.unlink(missing_ok=True)
        only.close()


def _up(place: Place, url: str, wishes: argparse.Namespace, children: list[Child]) -> None:
    """Server, then reports, then the scheduler; each when the one before it answers."""
    python = [sys.executable, "-P", "-m"]
    webhook = os.environ.pop(WEBHOOK, "")  # a secret: for the scheduler alone
    address = ["--host", HOST, "--port", str(wishes.port), "--timeout-keep-alive", "5"]
    command = [*python, "uvicorn", "--factory", _APP, *address, "--log-level", "warning"]
    children.append(Child("the server", command, server(place, url), place.logs / "server.log"))
    children[0].start()
    _wait(place, f"{url}/api/health", children[0])
    served = reports.serve(place, wishes.port + 1)
    found = {"url": url, "reports": served, "pid": os.getpid()}
    write_bytes(place.address, json.dumps(found).encode())
    variables = client(place, url)
    if webhook:
        variables[WEBHOOK] = webhook
    command = [*python, "flows.deploy"]
    children.append(Child("the scheduler", command, variables, place.logs / "scheduler.log"))
    children[1].start()
    _wait(place, f"{url}/api/deployments/name/predict/predict", children[1])
    _say(f"{url}", f"user and password: {place.credentials}", f"logs: {place.logs}", "Ctrl-C stops it")
    if not wishes.no_browser and ("DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ):
        webbrowser.open(url)


def request(place: Place, url: str, *, timeout_s: float = 5.0) -> int:
    """The status of a GET with the credentials; 0 where nobody answers."""
    token = base64.b64encode(place.password().encode()).decode()
    asked = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _wait(place: Place, url: str, child: Child) -> None:
    until = time.monotonic() + START_S
    assert child.process is not None
    while request(place, url) != 200:
        if child.process.poll() is not None:
            what = f"{child.name} ended with {child.process.returncode}"
            raise MmpipeError("server-down", what, where=str(child.log))
        if time.monotonic() > until:
            what = f"{child.name} does not answer within {START_S:.0f} s"
            raise TemporaryError("server-slow", what, where=str(child.log))
        time.sleep(0.3)


def _only_one(place: Place) -> IO[str]:
    """One server a workspace: a lock of the kernel's, held by the open file."""
    file = (place.folder / "ui.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        what = f"`mmpipe ui` runs here already: {place.found().get('url', 'it is just starting')}"
        fix = "use that one, or end it with Ctrl-C"
        raise LockedError("locked", what, where=str(place.root.resolve()), fix=fix) from None
    return file


def _check_names(root: Path) -> None:
    """Prefect looks for a flow's module in the workspace first. Raises InvalidError `name-taken`."""
    for path in (root / "flows/__init__.py", root / "flows.py"):
        if path.exists() and not path.samefile(Path(__file__).with_name("__init__.py")):
            what = "hides the package of this name that has mmpipe's flows"
            raise InvalidError("name-taken", what, where=str(path.resolve()))


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            where = f"{HOST}:{port}"
            raise MmpipeError("port-taken", error.strerror or str(error), where=where) from None


def _wishes() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mmpipe ui")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--no-browser", action="store_true")
    return parser.parse_args()


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    run(main)
