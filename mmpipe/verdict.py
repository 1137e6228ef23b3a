"""What the gate judges, and by which rules: test set, answers of both models, thresholds, checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmpipe import paired
from mmpipe.metrics import Floats


@dataclass(frozen=True)
class Thresholds:
    """What is asked of a challenger; `docs/models.md` explains each. None = no limit.

    `metric`: a measure of the task's rules; auto = their headline. `min_gain`, `max_recall_drop` and
    `max_ece_rise` are shares (of nll: nats; of errors: the target's unit). `alpha` is for the rule,
    `guard_alpha` for each guard that chance can trip: recall, over all classes, and calibration.
    """

    metric: str = "auto"
    rule: Literal["better", "not_worse"] = "better"
    alpha: float = 0.05
    min_gain: float = 0.0
    guard_alpha: float = 0.05
    max_recall_drop: float = 0.1
    max_ece_rise: float = 0.05
    max_latency_ratio: float | None = 1.5
    max_size_ratio: float | None = 2.0
    resamples: int = 5_000
    bins: int = 15


@dataclass(frozen=True)
class HeldOut:
    """N test samples. `target`: (N, …), of one label its place in `labels`. `group`: (N,) names.

    Near-duplicates share a group. `sha256` names the set: the same samples, contents and targets give it.
    """

    target: NDArray[Any]
    group: NDArray[np.str_]
    labels: list[str]
    sha256: str


@dataclass(frozen=True)
class Contender:
    """A model and what it made of the test samples.

    `answers`: (N, …), as the task's rules read them: of one label the probabilities, aligned to
    `HeldOut.labels`, where a row of zeros = no answer, which is always wrong. `known`: the labels it has.
    `latency_ms`: of one sample. `judged_on`: the `HeldOut.sha256` of when it was judged before; None =
    unknown.
    """

    name: str
    answers: Floats
    known: Sequence[str]
    latency_ms: float
    size_bytes: int
    bundle_sha256: str
    judged_on: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`reasons`: a sentence each, those that refuse first. `figures`: all that was asked and measured."""

    promote: bool
    reasons: list[str]
    figures: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Names and numbers that JSON can hold."""
        champion = self.figures["champion"]
        return {
            "verdict": "promote" if self.promote else "refuse",
            "champion": champion["name"] if champion else None,
            "reasons": self.reasons,
            "figures": self.figures,
        }


@dataclass(frozen=True)
class Check:
    """The rule or a guard: whether it is passed, why, and what was measured."""

    name: str
    passed: bool
    reason: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Match:
    """What every check looks at; `before` and `after` are the single figures of either model."""

    test: HeldOut
    pair: tuple[Floats, Floats]
    before: dict[str, Any]
    after: dict[str, Any]
    asked: Thresholds

    def gain(self, measure: paired.Measure, *, alpha: float, margin: float = 0.0) -> paired.Gain:
        """Of the challenger on the champion."""
        target, group, resamples = self.test.target, self.test.group, self.asked.resamples
        return paired.gain(measure, self.pair, target, group, margin=margin, alpha=alpha, resamples=resamples)


Guard = Callable[[Match], Check]


def _as_they_are(answers: Floats) -> Floats:
    return answers


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


def _silent(*_: Any) -> list[str]:
    return []


@dataclass(frozen=True)
class Rules:
    """How models of one task are judged. `headline`: the measure that counts unless another is asked for.

    `measures`: the higher, the better; those named in `lower` are told negated, as people know them.
    `clean`: what becomes of answers that are none. `beside`: figures beside the rule, `told` in words for a
    metric. `extra`: further figures of a model. `notes`: what counts as wrong without a look.
    """

    headline: str
    measures: Mapping[str, paired.Measure]
    lower: frozenset[str] = frozenset()
    guards: Sequence[Guard] = ()
    clean: Callable[[Floats], Floats] = _as_they_are
    beside: Callable[[Match], dict[str, Any]] = _nothing
    told: Callable[[str, dict[str, Any]], str] = lambda _metric, _found: ""
    extra: Callable[[Contender, HeldOut, Thresholds], dict[str, Any]] = _nothing
    notes: Callable[[HeldOut, Contender], list[str]] = _silent

    def figures(self, one: Contender, test: HeldOut) -> dict[str, float]:
        """Every measure of one model, as people know it."""
        found = {name: measure.of(one.answers, test.target) for name, measure in self.measures.items()}
        return {name: -value if name in self.lower else value for name, value in found.items()}


NAMED = 3
"""Classes or labels named in a sentence; the figures hold all."""


def some(words: Sequence[str], between: str) -> str:
    """The first few, and how many more."""
    more = f"{between}and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return between.join(words[:NAMED]) + more
