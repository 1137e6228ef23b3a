"""The flow `predict`: a table of samples through a published model, in a process of its own."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from flows.retrain import end_with_runner
from flows.speaking import tell
from flows.sturdy import sturdy
from mmpipe.errors import MmpipeError, UsageError
from mmpipe.retrain.apart import environment, program
from mmpipe.retrain.children import stream
from mmpipe.retrain.registering import CHAMPION


@sturdy("predict")
async def predict(table: str, output: str, model: str = CHAMPION) -> Any:
    """Predict every row of a table (CSV, JSONL or Parquet) and write a Parquet, JSONL or CSV file.

    Paths are relative to the workspace and lie in it. Raises UsageError `usage` for others, MmpipeError
    `step-failed`.
    """
    from mmpipe.registry.pull import resolve_folder

    end_with_runner()
    root = Path.cwd().resolve()
    for name in (table, output):
        if not (root / name).resolve().is_relative_to(root):
            raise UsageError("usage", f"{name!r} is outside of the workspace")
    arguments = [table, "--output", output, "--model", str(resolve_folder(model))]
    command = program("predict", *arguments)
    status = await stream(command, cwd=root, environment=environment(root), say=lambda s: tell("predict", s))
    if status:
        raise MmpipeError("step-failed", f"ended with {status}", where="mmpipe predict")
    return Completed(name="Predicted", message=f"{table} by {model} into {output}")
