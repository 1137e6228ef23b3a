"""Pulls in processes of their own that are killed at a chosen moment: before their n-th touch of a file.

Run as a program it is the server of such processes: it has DVC imported and forks for each pull.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from mmpipe.errors import MmpipeError
from mmpipe.registry import pull

TOUCHES = frozenset(
    {"open", "os.chmod", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir"}
    | {"ctypes.dlopen", "shutil.rmtree"}
)
"""Of Python's audit events. The library is opened right before two names are swapped."""
OURS = ("model", ".model", ".mmpipe")
FINISHED, FAILED = 0, 1


class Pulls:
    """Asks the server; `into` the folder `model` of `cwd`."""

    def __init__(self, process):
        self.process = process

    def __call__(self, spec: str, source: Path, cwd: Path, moment: int) -> int:
        """FINISHED, FAILED, or -9 where the moment came first."""
        asked = {"spec": spec, "source": str(source), "cwd": str(cwd), "moment": moment}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def server(scratch: Path) -> Iterator[Pulls]:
    """`scratch`: for the temporary files that killed processes leave."""
    command = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}, **pipes) as process:
        yield Pulls(process)
        process.stdin.close()
        assert process.wait() == 0


def watch(moment: int) -> None:
    """From now on count, and die before the touch of that number."""
    touches = 0

    def count(event, arguments):
        nonlocal touches
        if event in TOUCHES and (event == "ctypes.dlopen" or is_ours(arguments[0])):
            touches += 1
            if touches > moment:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(count)


def is_ours(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(OURS)


def serve() -> None:
    for module in ("dvc.api", "gto.api", "scmrepo.git"):  # each pull would import them
        import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.chdir(asked["cwd"])
            watch(asked["moment"])
            try:
                pull.pull(asked["spec"], source=asked["source"], into=Path("model"))
            except MmpipeError:
                os._exit(FAILED)
            os._exit(FINISHED)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
