"""The flow `predict`: a table of samples through a published model, in a process of its own."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from flows.command import ask
from flows.retrain import end_with_runner
from flows.sturdy import sturdy
from mmpipe.errors import UsageError
from mmpipe.retrain.registering import CHAMPION


@sturdy("predict")
async def predict(table: str, output: str, model: str = CHAMPION) -> Any:
    """Predict every row of a table; paths are relative to the workspace and lie in it.

    Raises UsageError `usage` for other paths, MmpipeError `step-failed`.

    Args:
        table: CSV, JSONL or Parquet file, or a folder with a subfolder a class.
        output: The .parquet, .jsonl or .csv file to write.
        model: A version, a stage, or the folder of a bundle.
    """
    end_with_runner()
    root = Path.cwd().resolve()
    for name in (table, output):
        if not (root / name).resolve().is_relative_to(root):
            raise UsageError("usage", f"{name!r} is outside of the workspace")
    counts = await ask("predict", "--output", output, "--model", model, "--", table)
    refused = "".join(f", {number} {code}" for code, number in counts["refused"].items())
    told = f"{counts['predicted']} of {counts['rows']} rows of {table} by {model} into {output}{refused}"
    return Completed(name="Predicted", message=told)
