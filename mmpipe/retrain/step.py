"""The program that `apart` starts: one step, arguments from a file, its result or error into another."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mmpipe.errors import MmpipeError
from mmpipe.files import write_bytes
from mmpipe.stages.process import run


def main() -> NoReturn:
    """`python -m mmpipe.retrain.step STEP ARGUMENTS.json ANSWER.json`; it ends with who started it."""
    run(lambda: _answer(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))


def _answer(step: str, given: Path, answer: Path) -> None:
    try:
        result = _function(step)(**json.loads(given.read_bytes()))
    except MmpipeError as error:
        kind = type(error).__name__
        facts = {name: getattr(error, name) for name in ("code", "what", "where", "done", "fix")}
        write_bytes(answer, json.dumps({"error": {"kind": kind, **facts}}).encode())
        raise
    write_bytes(answer, json.dumps({"result": result}).encode())


def _function(step: str) -> Callable[..., Any]:
    """The steps that there are; only the one that is asked for is loaded."""
    if step == "repro":
        from mmpipe.retrain.repro import repro

        return repro
    if step == "plan":
        from mmpipe.retrain.dag import plan

        return plan
    if step == "snapshot":
        from mmpipe.retrain.snapshot import take

        return take
    if step == "samples":
        from mmpipe.retrain.sampled import compare

        return compare
    if step == "imports":
        from mmpipe.retrain.imports import changed

        return changed
    from mmpipe.retrain import registering

    steps: tuple[Callable[..., Any], ...] = (registering.publish, registering.promote, registering.push)
    return {function.__name__: function for function in steps}[step]


if __name__ == "__main__":
    main()
