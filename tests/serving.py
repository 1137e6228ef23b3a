"""A real server in a thread of this process, on a free port of the loopback."""

import contextlib
import threading
import time
from pathlib import Path

import httpx

from mmpipe.errors import FIXES
from mmpipe.predict import load
from mmpipe.serve.current import Current
from mmpipe.serve.limits import Limits
from mmpipe.serve.server import listen, make, url_of


class Running:
    """`client` asks it; `service` is what the routes ask; `current` its model."""

    def __init__(self, folder, limits, *, resolve=None, **options):
        self.folder = Path(folder)
        self.current = Current(resolve or (lambda: (self.folder, self.folder.name)), self._load)
        self.current.start()
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.url = url_of(listener)
        self._server = make(self.current, limits, **{"host": "127.0.0.1", "token": None} | options)
        self.service = self._server.config.app._app.state.service
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        assert self.client.get("/healthz").status_code == 200

    @staticmethod
    def _load(folder, name):
        return load(folder, device="cpu", name=name)

    def predict(self, sample=None, *, explain=None, **parts):
        """POST multipart: of raw files and a text, or of ready parts."""
        for kind, value in (sample or {}).items():
            parts[kind] = value.read_bytes() if isinstance(value, Path) else value
        files = {kind: (None if kind == "text" else f"f.{kind}", value) for kind, value in parts.items()}
        query = {} if explain is None else {"explain": explain}
        return self.client.post("/predict", files=files, params=query)

    def metric(self, name):
        """The value of one line of /metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def stop(self):
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(folder, *, limits=None, **options):
    """Stopped at the end."""
    server = Running(folder, limits or Limits(workers=2, poll_s=0.05), **options)
    try:
        yield server
    finally:
        server.stop()


def until(condition, seconds=10.0):
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def refused(response, status, code):
    """The words of a coded refusal."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json().keys() == {"code", "what", "fix"}
    assert response.json()["fix"] == FIXES[code]
    return response.json()["what"]


FORM = "multipart/form-data; boundary=xx"


def head(kind, *more):
    """The head of a POST to /predict, for a bare socket."""
    lines = ["POST /predict HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *more, "", ""]
    return "\r\n".join(lines).encode()


def send(server, body, kind):
    """POST a body as it is."""
    return server.client.post("/predict", content=body, headers={"content-type": kind})
