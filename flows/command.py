"""A command of `mmpipe` as a child of a flow run: its lines go to the log, its JSON comes back."""

import json
import tempfile
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flows import artifacts
from flows.speaking import tell
from mmpipe.errors import MmpipeError
from mmpipe.retrain.apart import environment, program
from mmpipe.retrain.children import stream

_KEPT_LINES = 5


async def ask(name: str, *arguments: str, good: Collection[int] = (0,)) -> dict[str, Any]:
    """What `mmpipe NAME ARGUMENTS --json` answers in the current folder; cancelled, the command ends whole.

    Raises MmpipeError `step-failed` with its last words for an exit status that is not one of the `good`.
    """
    words: deque[str] = deque(maxlen=_KEPT_LINES)

    root = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mmpipe-") as scratch:
        answer = Path(scratch, "answer.json")
        command = program(name, "--json", *arguments)
        async with artifacts.progress(name, tell) as heard:

            def hear(line: str) -> None:
                words.append(line)
                heard(name, line)

            status = await stream(command, cwd=root, environment=environment(root), say=hear, output=answer)
        text = answer.read_text("utf-8")
    if status not in good or not text.strip():
        said = " / ".join(words) or "no words"
        raise MmpipeError("step-failed", f"ended with {status}: {said}", where=f"mmpipe {name}")
    found: dict[str, Any] = json.loads(text)
    return found
