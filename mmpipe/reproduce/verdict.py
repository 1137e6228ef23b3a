"""Identical, equivalent or diverged: what the stages that ran again say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmpipe.reproduce.stage import Stage

EXPECTED = ("accuracy", "macro_f1")
"""Test metrics that never come without an interval."""


@dataclass(frozen=True)
class Verdict:
    """`stage`: the first that did not come out as recorded; None where all did. `why`: in one sentence."""

    word: Literal["identical", "equivalent", "diverged"]
    stage: str | None
    why: str


def ends(stages: Sequence[Stage], *, same_environment: bool | None) -> bool:
    """Whether the last stage settles the verdict, so that no other need run."""
    last = stages[-1]
    if last.state == "altered":
        return True
    different = [stage for stage in stages if stage.counts and stage.state == "differs"]
    return bool(different) and (last.other_rows or same_environment is True)


def conclude(
    stages: Sequence[Stage], recorded: Sequence[str], *, same_environment: bool | None, outside: Sequence[str]
) -> Verdict:
    """Of the stages that ran. `recorded`: the names of those that the version has.

    `same_environment`: whether libraries and machine are those recorded; None where that is unknown.
    `outside`: metrics beyond their recorded interval, in words.
    """
    counted = [stage for stage in stages if stage.counts]
    altered = next((stage for stage in stages if stage.state == "altered"), None)
    if altered is not None:
        return Verdict("diverged", altered.name, next(c.what for c in altered.causes if c.altered))
    first = next((stage for stage in counted if stage.state == "differs"), None)
    if first is None:
        return _complete(stages, recorded)
    words = _told(first)
    rows = next((stage for stage in counted if stage.other_rows), None)
    if rows is not None:
        return Verdict("diverged", rows.name, _told(rows))
    if same_environment:
        return Verdict(
            "diverged", first.name, f"{words}, with the same libraries on the same kind of machine"
        )
    if same_environment is None:
        return Verdict("diverged", first.name, f"{words}, and where it was made is not to be had")
    if outside:
        return Verdict("diverged", first.name, f"{words}; and {outside[0]}")
    lacking = _complete(stages, recorded)
    if lacking.word == "diverged":
        return lacking
    return Verdict("equivalent", first.name, f"{words}; the metrics lie within their recorded intervals")


def outside(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Of two `metrics/evaluate.json`, what lies beyond the old interval."""
    found = []
    bounded = {name.removesuffix("_low") for name in old if name.endswith("_low")}
    for name in sorted(bounded | {name for name in EXPECTED if name in new}) or ["no metric"]:
        low, high, value = old.get(f"{name}_low"), old.get(f"{name}_high"), new.get(name)
        if low is None or high is None or value is None:
            found.append(f"{name} has no recorded interval")
        elif not low <= value <= high:
            found.append(f"{name} {value:.3f} is outside of [{low:.3f}, {high:.3f}]")
    return found


def _complete(stages: Sequence[Stage], recorded: Sequence[str]) -> Verdict:
    lacking = [name for name in recorded if name not in {stage.name for stage in stages}]
    if lacking:
        return Verdict("diverged", lacking[0], "was recorded, and dvc.yaml of the commit does not run it")
    return Verdict("identical", None, f"{len(stages)} stages came out byte for byte as recorded")


def _told(stage: Stage) -> str:
    path, distance = next(iter(stage.differences.items()))
    return f"{path}: {distance.what}"
