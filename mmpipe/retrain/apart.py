"""Steps in processes of their own: cancelled whole, and the scheduler never loads what they need."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpipe import errors
from mmpipe.errors import MmpipeError
from mmpipe.retrain.children import Say, stream

MARK = "MMPIPE_RUN"
"""In the environment of everything that a run starts: the folder of its worktree."""
_PROGRAM = "mmpipe.retrain.step"
_COMMAND = (
    "from mmpipe.stages.process import end_with_parent; end_with_parent(); from mmpipe.cli import run; run()"
)
_ERRORS: tuple[type[MmpipeError], ...] = (MmpipeError, *MmpipeError.__subclasses__())


def environment(folder: Path) -> dict[str, str]:
    """Of all programs of the run in this folder: this Python first on PATH, no questions, no reports.

    A stage's script may import what lies beside it, whatever holds for the run itself.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    quiet = {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0", "PYTHONUNBUFFERED": "1"}
    return {"PATH": path, MARK: str(folder), "PYTHONSAFEPATH": "", **quiet}


def program(*arguments: str) -> list[str]:
    """`mmpipe …` by this Python; it ends with who started it."""
    return [sys.executable, "-P", "-c", _COMMAND, *arguments]


async def call(
    step: str,
    arguments: Mapping[str, Any],
    *,
    cwd: Path,
    variables: Mapping[str, str],
    say: Say,
) -> Any:
    """Run one of the steps of `retrain.step` in a folder and return what it returns.

    Arguments and result are what JSON can hold. Raises the step's own MmpipeError, or `step-failed` with its
    last words.
    """
    words: list[str] = []

    def hear(line: str) -> None:
        words.append(line)
        del words[:-5]
        say(line)

    with tempfile.TemporaryDirectory(prefix="mmpipe-") as scratch:
        given, answer = Path(scratch, "arguments.json"), Path(scratch, "answer.json")
        given.write_text(json.dumps(arguments), "utf-8")
        command = [sys.executable, "-P", "-m", _PROGRAM, step, str(given), str(answer)]
        status = await stream(command, cwd=cwd, environment=variables, say=hear)
        found = json.loads(answer.read_bytes()) if answer.exists() else {}
    if "result" in found:
        return found["result"]
    if "error" in found:
        raise _rebuilt(found["error"])
    said = " / ".join(words) or "no words"
    raise MmpipeError("step-failed", f"ended with {status}: {said}", where=step)


def _rebuilt(facts: dict[str, str]) -> MmpipeError:
    kinds = {kind.__name__: kind for kind in _ERRORS}
    kind = kinds.get(facts.pop("kind"), MmpipeError)
    code, what = facts.pop("code"), facts.pop("what")
    if code not in errors.FIXES:  # of another version's
        return MmpipeError("step-failed", f"{code} {what}")
    return kind(code, what, **facts)
