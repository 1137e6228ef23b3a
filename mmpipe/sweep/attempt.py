"""One trial as `dvc exp run` in the sweep's clone: its figures while it trains, and what came of it."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

from mmpipe import locks, paths, vcs
from mmpipe.errors import InvalidError, MmpipeError
from mmpipe.sweep.clone import Clone
from mmpipe.sweep.study import Trial

METRICS = paths.METRICS / "train.json"
_EPOCH = re.compile(r"epoch \d+/\d+ ")
_OWN_FAULT = re.compile(r"(train-not-finite|budget-exceeded|params) .*")
"""Errors of a stage that its parameters alone are to blame for; any other ends the sweep."""
Line = Callable[[str], object]


def run(clone: Clone, trial: Trial, metric: str, on_line: Line) -> None:
    """Do a trial and end it: complete, pruned, or failed by its own values; only a complete one is kept.

    `on_line` is told what DVC and its stages print. Whatever else goes wrong is raised, and the trial does
    not count: MmpipeError `command-failed`; InvalidError `split-too-few` where there is no figure to go by.
    """
    try:
        clone.reset(trial.values)
    except InvalidError as error:
        if error.code != "params":
            raise
        trial.fail(error.what.replace(str(clone.root), ""))
        return
    locks.heal(clone.root)
    reason = ""
    arguments = ("exp", "run", "--force", "--name", trial.experiment)
    with vcs.dvc_lines(*arguments, cwd=clone.root, environment=clone.environment, ask=signal.SIGINT) as lines:
        try:
            for line in lines:
                on_line(line)
                if found := _OWN_FAULT.fullmatch(line):
                    reason = found[0]
                if _EPOCH.match(line) and any(trial.hopeless(*row) for row in curve(clone.root, metric)):
                    trial.prune()
                    return
        except MmpipeError:
            if not reason:
                raise
            trial.fail(reason)
            return
    value = _figure(clone, trial.experiment, metric)
    clone.hand_over(trial.experiment)
    trial.complete(value)


def curve(root: Path, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of the training that is going on in this workspace, so far."""
    found = sorted((root / paths.PRIVATE / "live").glob(f"*/plots/metrics/{metric}.tsv"))
    rows = [line.split("\t") for path in found for line in path.read_text("utf-8").splitlines()[1:]]
    return [(int(row[0]), float(row[1])) for row in rows if len(row) == 2]


def _figure(clone: Clone, experiment: str, metric: str) -> float:
    text = clone.read(experiment, METRICS)
    found = json.loads(text).get(metric) if text else None
    if found is None:
        what = f"has no {metric}: a sweep is judged on a validation split"
        raise InvalidError("split-too-few", what, where=str(METRICS), fix="raise split.val_fraction")
    return float(found)
