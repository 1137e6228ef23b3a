"""A sweep from start to end: one trial after another until so many have ended, and the best of them."""

import fcntl
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmpipe import params, paths
from mmpipe.errors import InvalidError, LockedError, NotFoundError, UsageError
from mmpipe.registry import worktree
from mmpipe.sweep import attempt, space
from mmpipe.sweep.clone import check_names, cloned, dirty
from mmpipe.sweep.study import Plan, Study, begun
from mmpipe.tasks import task

SWEEPS = paths.PRIVATE / "sweeps"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")

_SHOWN = 5


@dataclass(frozen=True)
class Wishes:
    """What is asked of a sweep. `values`: as `space.parse` takes them; `trials`: that have ended, in all."""

    name: str
    values: Sequence[str]
    trials: int
    seed: int
    startup: int
    prune_after: int | None


@dataclass(frozen=True)
class Watch:
    """Who is told: of the study before its first trial, each line of a trial, and each trial that ended."""

    begun: Callable[[Study], object]
    line: Callable[[str, str], object]
    ended: Callable[[Study], object]


def search(root: Path, wishes: Wishes, watch: Watch) -> Study:
    """Do what is left of a sweep. Interrupted anywhere, the same call goes on from there.

    A study begins at HEAD, and stays at that commit. Raises UsageError `usage`, `sweep-space` or
    `sweep-differs`, InvalidError `tree-dirty`, `git-state`, `params` or `raw-untracked`, LockedError, and as
    `attempt.run` does.
    """
    if not _NAME.fullmatch(wishes.name):
        raise UsageError("usage", f"--name is a word of letters, digits, - and _, not {wishes.name!r}")
    if not (root / paths.PIPELINE).is_file():
        raise NotFoundError("workspace", "has no dvc.yaml", where=str(root.resolve()))
    place = worktree.locate(root)
    root = root.resolve()
    own = root / SWEEPS / wishes.name
    own.mkdir(parents=True, exist_ok=True)
    with _held(own):
        study = _study(root, wishes, place, own / "study.db")
        watch.begun(study)
        if len(study.ended()) < wishes.trials:
            with cloned(root, place, study.plan.commit, own) as clone:
                while len(study.ended()) < wishes.trials and (trial := study.next()) is not None:
                    attempt.run(clone, trial, study.plan.metric, partial(watch.line, trial.experiment))
                    watch.ended(study)
    return study


def _study(root: Path, wishes: Wishes, place: worktree.Place, file: Path) -> Study:
    """The study of this name, begun if there is none."""
    commit = begun(file, wishes.name)
    if commit is None:
        check_names(place, wishes.name)
        if changed := dirty(place):
            what = f"not as in the commit: {', '.join(changed[:_SHOWN])}"
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise InvalidError("tree-dirty", what + more, where=str(place.top), done="nothing was tried")
    there = params.load(root / paths.PARAMS)
    plan = Plan(
        commit=commit or place.commit,
        space=space.parse(wishes.values, there),
        metric=task.load(there.model.task).chooses,
        seed=wishes.seed,
        startup=wishes.startup,
        prune_after=wishes.prune_after,
    )
    return Study(file, wishes.name, plan)


@contextmanager
def _held(own: Path) -> Iterator[None]:
    """A lock of the kernel's, which a dead process cannot hold."""
    with (own / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError("locked", "is at work already", where=f"sweep {own.name}") from None
        yield
