"""What a sweep knows: an Optuna study in a file, whole at any time; what comes next follows from what was.

Optuna numbers what it begins; here a trial counts when it has ended. What is drawn depends on the seed and on
the trials that count, so that one that was broken off is done again under its own name, with its own values.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmpipe.errors import NotFoundError, UsageError
from mmpipe.sweep.space import Choice, Range, Space, describe, points

try:
    import optuna
except ImportError:
    fix = "pip install 'mmpipe[sweep]'"
    raise NotFoundError("library-missing", "a sweep needs Optuna", fix=fix) from None

State = Literal["complete", "pruned", "failed"]
_WHY = "reason"
"""Attribute of a trial that failed by its own values: it counts."""
_STATES: dict[State, optuna.trial.TrialState] = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}


@dataclass(frozen=True)
class Plan:
    """What makes trials of a study comparable. `commit`: all start from it; `metric`: the lower, the better.

    `startup`: so many trials are drawn at random and run to their end; None prunes no trial at all.
    `prune_after`: epochs that every trial gets.
    """

    commit: str
    space: Space
    metric: str
    seed: int
    startup: int
    prune_after: int | None

    def record(self) -> dict[str, Any]:
        """As the study's file holds it."""
        return {**vars(self), "space": describe(self.space)}


@dataclass(frozen=True)
class Ended:
    """A trial that has ended. `experiment`: its name; `value`: of the metric, None unless complete.

    `reason`: why it was pruned or failed.
    """

    experiment: str
    params: dict[str, Any]
    state: State
    value: float | None
    reason: str


class Study:
    """One study in one file. Only one process at a time may have it."""

    def __init__(self, path: Path, name: str, plan: Plan) -> None:
        """Raises UsageError `sweep-differs` where the study was begun with another plan."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self.plan = name, plan
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if plan.prune_after is not None:
            pruner = optuna.pruners.MedianPruner(plan.startup, n_warmup_steps=plan.prune_after - 1)
        self._study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=name,
            direction="minimize",
            pruner=pruner,
            load_if_exists=True,
        )
        recorded = self._study.user_attrs.get("plan")
        if recorded is None:
            self._study.set_user_attr("plan", plan.record())
        elif recorded != plan.record():
            other = sorted(key for key in recorded if recorded[key] != plan.record().get(key))
            what = f"began with another {' and '.join(other)}"
            fix = "give the same options as then, or another --name"
            raise UsageError("sweep-differs", what, where=name, fix=fix)
        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):  # broken off
            self._study.tell(trial.number, state=_STATES["failed"])

    def ended(self) -> list[Ended]:
        """All that have ended, in their order."""
        return [_ended(f"{self.name}-{index + 1}", trial) for index, trial in enumerate(self._counted())]

    def best(self) -> Ended | None:
        """The lowest; the earlier of equals."""
        complete = [one for one in self.ended() if one.value is not None]
        return min(complete, key=lambda one: one.value or 0.0, default=None)

    def next(self) -> "Trial | None":
        """The trial to do now, again the one that was broken off; None where every combination was tried."""
        index = len(self._counted())
        # A fresh sampler each time: its chance is of this trial, not of how often the command was begun.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=self.plan.seed + index, n_startup_trials=self.plan.startup
        )
        trial, values = self._draw()
        if (tried := [one.params for one in self.ended()]) and values in tried:
            self._study.tell(trial, state=_STATES["failed"])
            left = [point for point in points(self.plan.space) or () if point not in tried]
            if not left:
                return None
            self._study.enqueue_trial(random.Random(self.plan.seed + index).choice(left))
            trial, values = self._draw()
        return Trial(self._study, trial, f"{self.name}-{index + 1}", values)

    def _draw(self) -> tuple[optuna.Trial, dict[str, Any]]:
        trial = self._study.ask()
        return trial, {key: _suggest(trial, key, one) for key, one in sorted(self.plan.space.items())}

    def _counted(self) -> list[optuna.trial.FrozenTrial]:
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.is_finished()
            and (trial.state is not _STATES["failed"] or _WHY in trial.user_attrs)
        ]


def begun(path: Path, name: str) -> str | None:
    """The commit that the study in this file began at; None where it was not begun."""
    if not path.is_file():
        return None
    studies = optuna.get_all_study_summaries(storage=f"sqlite:///{path}")
    plans = [study.user_attrs.get("plan") for study in studies if study.study_name == name]
    return str(plans[0]["commit"]) if plans and plans[0] else None


class Trial:
    """One trial that is being done. `values`: key of params.yaml → value."""

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, experiment: str, values: Mapping[str, Any]
    ) -> None:
        self.experiment, self.values = experiment, dict(values)
        self._study, self._trial = study, trial
        self._seen: set[int] = set()

    def hopeless(self, epoch: int, value: float) -> bool:
        """Note the metric after an epoch, once; whether the trial is to be stopped."""
        if epoch in self._seen:
            return False
        self._seen.add(epoch)
        self._trial.report(value, epoch)
        return self._trial.should_prune()

    def complete(self, value: float) -> None:
        """It came to its end, with this metric."""
        self._study.tell(self._trial, value)

    def prune(self) -> None:
        """It was stopped."""
        self._study.tell(self._trial, state=_STATES["pruned"])

    def fail(self, reason: str) -> None:
        """These values cannot be trained with."""
        self._trial.set_user_attr(_WHY, reason)
        self._study.tell(self._trial, state=_STATES["failed"])


def _ended(experiment: str, trial: optuna.trial.FrozenTrial) -> Ended:
    state = next(name for name, known in _STATES.items() if known is trial.state)
    reason = trial.user_attrs.get(_WHY, "")
    if state == "pruned":
        reason = f"after epoch {max(trial.intermediate_values) + 1}"
    value = trial.value if state == "complete" else None
    return Ended(experiment, dict(trial.params), state, value, reason)


def _suggest(trial: optuna.Trial, key: str, one: Range | Choice) -> Any:
    if isinstance(one, Choice):
        return trial.suggest_categorical(key, one.values)
    if one.whole:
        return trial.suggest_int(key, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
    return trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)
