"""The curves of a training, for people: DVCLive's tables and TensorBoard, always the whole history.

A resumed run replays what the unbroken part had logged, so both read as if there had been no break.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from dvclive import Live
from torch.utils.tensorboard import SummaryWriter

from mmpipe import files


class Curves:
    """A context: `log` a row an epoch, then `publish` the tables.

    `live` and `tensorboard` are folders of this run alone; what lies there is replaced.
    """

    def __init__(self, live: Path, tensorboard: Path) -> None:
        for folder in (live, tensorboard):
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = live
        self._live = _Live(dir=str(live), save_dvc_exp=False, dvcyaml=None, monitor_system=False)
        self._board = SummaryWriter(str(tensorboard))

    def log(self, row: Mapping[str, float]) -> None:
        """One epoch: name → value; `epoch` is the step."""
        epoch = int(row["epoch"])
        self._live.step = epoch
        for name, value in sorted(row.items()):
            if name != "epoch":
                self._live.log_metric(name, value, timestamp=False)
                self._board.add_scalar(name, value, epoch)

    def publish(self, folder: Path) -> None:
        """Put DVCLive's tables, one a curve, into `folder`: the same bytes for the same history."""
        shutil.rmtree(folder, ignore_errors=True)
        for path in sorted((self._folder / "plots" / "metrics").glob("*.tsv")):
            files.write_bytes(folder / path.name, path.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.end()
        self._board.close()


class _Live(Live):  # type: ignore[misc]
    """DVCLive that does not look at git: DVC tracks the stage, and a new workspace has no commit yet."""

    def _init_dvc(self) -> None:
        """Nothing (DVCLive 3.49 ends with "Empty git repo" here)."""
