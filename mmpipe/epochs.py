"""How a training goes, for whoever watches: a bar on a terminal, else a line an epoch; on stderr."""

import sys
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Epochs:
    """A context that shows each epoch's row."""

    def __init__(self, total: int, title: str = "") -> None:
        """`title`: which training it is, where there are several."""
        self.total = total
        self.title = f"{title}, " if title else ""
        words = (
            TextColumn(title or "train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*words, TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._bar.add_task("", total=total)
        self._shown = sys.stderr.isatty()

    def show(self, row: Mapping[str, float]) -> None:
        """One epoch: `epoch`, `train_loss` and, where there is validation, the task's figures `val_…`."""
        names = [
            "train_loss",
            *(name for name in row if name.startswith("val_") and "calibrated" not in name),
        ]
        words = "  ".join(f"{name} {row[name]:.3f}" for name in names)
        if self._shown:
            self._bar.update(self._task, completed=row["epoch"] + 1, description=words)
        else:
            print(f"{self.title}epoch {int(row['epoch']) + 1}/{self.total}  {words}", file=sys.stderr)  # noqa: T201

    def __enter__(self) -> Self:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()
