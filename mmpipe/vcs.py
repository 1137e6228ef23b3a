"""Running git, dvc and other programs: always checked, their own last words in our error."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError

PATIENCE_S = 10.0
"""For a program that was asked to end."""
_BOUND = (
    "import ctypes, runpy, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's `&` and nohup have it ignored
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)\n"  # PR_SET_PDEATHSIG, SIGTERM
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""Runs a module that hears SIGINT, and ends when the process that started it does, even by a kill."""


def git(*arguments: str, cwd: Path) -> str:
    """Run git in a folder and return what it printed, in English; it never asks anything."""
    return run("git", *arguments, cwd=cwd, environment={"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"})


def ask_git(*arguments: str, cwd: Path) -> str | None:
    """What git printed, without the last line's end; None where it says no by its exit status."""
    try:
        return git(*arguments, cwd=cwd).removesuffix("\n")
    except NotFoundError:
        raise
    except MmpipeError:
        return None


def dvc(*arguments: str, cwd: Path) -> str:
    """Run this environment's DVC in a folder and return what it printed."""
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd, environment={"DVC_NO_ANALYTICS": "1"})


def git_root(folder: Path) -> Path | None:
    """The top of the git work tree that `folder` lies in; None outside of one."""
    top = ask_git("rev-parse", "--show-toplevel", cwd=folder)
    return Path(top) if top else None


def run(
    *command: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 3600.0,
) -> str:
    """Run a program without a shell and without input; return its stdout.

    Raises NotFoundError where the program is missing, TemporaryError past the time, MmpipeError
    (`command-failed`) with its last words on any other exit status than 0.
    """
    name = " ".join(command[:4])
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        missing = error.filename or command[0]
        raise NotFoundError("command-missing", f"{missing!r} is not installed", where=name) from None
    except subprocess.TimeoutExpired:
        raise TemporaryError("command-failed", f"gave no answer in {timeout_s:g} s", where=name) from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no words")[-2_000:]
        raise MmpipeError("command-failed", f"ended with {done.returncode}: {words}", where=name)
    return done.stdout


@contextmanager
def dvc_lines(
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    ask: signal.Signals = signal.SIGTERM,
) -> Iterator[Iterator[str]]:
    """What DVC and its stages print, a line at a time while they run; all of them end with the context.

    `ask`: by which signal they are asked to; on SIGINT, DVC waits for its stage and cleans up. Behind
    the last line comes MmpipeError (`command-failed`) where the exit status is not 0.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _BOUND, "dvc", *arguments],
        cwd=cwd,
        env={**os.environ, "DVC_NO_ANALYTICS": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield _lines(process, " ".join(["dvc", *arguments[:3]]))
        finally:
            if process.returncode is None:
                _end_group(process, ask)


def _lines(process: subprocess.Popen[str], name: str) -> Iterator[str]:
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=20)
    for line in process.stdout:
        last.append(line)
        yield line.rstrip("\n")
    if code := process.wait():
        words = "".join(last).strip()[-2_000:] or "no words"
        raise MmpipeError("command-failed", f"ended with {code}: {words}", where=name)


def _end_group(process: subprocess.Popen[str], ask: signal.Signals) -> None:
    """Ask all of it to end, and SIGKILL to what is left after some seconds."""
    for number in (ask, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
