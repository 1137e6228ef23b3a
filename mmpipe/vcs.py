"""Running git, dvc and other programs: always checked, their own last words in our error."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError


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
