"""The servers that are compared: `mmpipe serve`, and the handler that a tutorial would write."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from processes import cpu_s, family, resident_mb

REPOSITORY = Path(__file__).resolve().parents[1]


class Server:
    """A process that printed its URL."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
        self.process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/", self.process.stdout.readline())
        assert found, "the server did not start"
        self.port = int(found[1])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as response:
            return str(response.read().decode())

    def decoders(self) -> list[int]:
        """Those that were forked by the fork server."""
        return sorted(family(self.process.pid)[1:])[2:]

    def cpu_s(self) -> float:
        """Of all processes that there are."""
        return cpu_s(family(self.process.pid))

    def memory_mb(self) -> float:
        time.sleep(0.5)
        return resident_mb(family(self.process.pid))


def our_server(model: Path, environment: dict[str, str]) -> Server:
    """As people start it."""
    run = "from mmpipe.cli import run; run()"
    command = [sys.executable, "-c", run, "serve", "--port", "0", "--model", str(model)]
    return Server(command, environment)


def plain_server(model: Path, environment: dict[str, str]) -> Server:
    """This file again, as that handler."""
    return Server([sys.executable, __file__, str(model)], environment)


def serve_plainly(model: Path) -> None:
    """One request, one prediction, in a thread of the framework's pool."""
    import uvicorn
    from fastapi import FastAPI, File, Form, UploadFile

    from mmpipe.predict import load
    from mmpipe.serve.server import listen, url_of

    app, predictor = FastAPI(), load(model)

    @app.post("/predict")
    def predict(
        image: UploadFile | None = File(None),  # noqa: B008
        text: str | None = Form(None),
        audio: UploadFile | None = File(None),  # noqa: B008
    ) -> dict[str, object]:
        files = {name: part.file.read() for name, part in (("image", image), ("audio", audio)) if part}
        return vars(predictor.predict(text=text, **files))

    listener = listen("127.0.0.1", 0)
    print(url_of(listener), flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, http="h11", ws="none")
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    serve_plainly(Path(sys.argv[1]))
