"""May this model take the champion's place? A verdict with reasons, from both models' probabilities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmpipe import metrics, paired
from mmpipe.errors import InvalidError
from mmpipe.metrics import Floats, Ints

MEASURES = {"accuracy": paired.ACCURACY, "macro_f1": paired.MACRO_F1, "nll": paired.LIKELIHOOD}
NAMED = 3
"""Classes or labels named in a sentence; the figures hold all."""
NEW_SET = (
    "was judged on another test set before: both models were judged anew on this one, and samples that are "
    "new to it may be among those that the champion was trained on"
)


@dataclass(frozen=True)
class Thresholds:
    """What is asked of a challenger; `docs/models.md` explains each. None = no limit.

    `min_gain`, `max_recall_drop` and `max_ece_rise` are shares (of nll: nats). `alpha` is for the rule,
    `guard_alpha` for each guard that chance can trip: recall, over all classes, and calibration.
    """

    metric: Literal["accuracy", "macro_f1", "nll"] = "accuracy"
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
    """N test samples. `target`: (N,) indices of `labels`. `group`: (N,) names; near-duplicates share one.

    `sha256` names the set: the same samples, contents and targets give the same.
    """

    target: Ints
    group: NDArray[np.str_]
    labels: list[str]
    sha256: str


@dataclass(frozen=True)
class Contender:
    """A model and what it made of the test samples.

    `probabilities`: (N, K), aligned to `HeldOut.labels`; a row of zeros = no answer, which is always wrong.
    `known`: the labels it has. `latency_ms`: of one sample. `judged_on`: the `HeldOut.sha256` of when it was
    judged before; None = unknown.
    """

    name: str
    probabilities: Floats
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
class _Check:
    """The rule or a guard: whether it is passed, why, and what was measured."""

    name: str
    passed: bool
    reason: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class _Match:
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


def judge(test: HeldOut, champion: Contender | None, challenger: Contender, asked: Thresholds) -> Verdict:
    """Compare both on the same samples; without a champion the challenger is promoted as it is.

    A function of its arguments alone. Raises InvalidError `split-too-few` where there is no sample.
    """
    if not len(test.target):
        raise InvalidError("split-too-few", "no test sample to judge on", fix="raise split.test_fraction")
    challenger = _answers(challenger)
    figures: dict[str, Any] = {
        "samples": len(test.target),
        "groups": len(np.unique(test.group)),
        "test_sha256": test.sha256,
        "champion": None,
        "challenger": _measured(challenger, test, asked.bins),
        "thresholds": asdict(asked),
    }
    if champion is None:
        words = f"there is no champion: {challenger.name} is the first, so it is promoted as it is."
        return Verdict(True, [words, *_notes(test, challenger)], metrics.rounded(figures))
    champion = _answers(champion)
    figures["champion"] = _measured(champion, test, asked.bins)
    pair = (champion.probabilities, challenger.probabilities)
    match = _Match(test, pair, figures["champion"], figures["challenger"], asked)
    checks = [check(match) for check in (_rule, _recall, _calibration, _latency, _size)]
    for check in checks:
        figures |= check.figures
    figures["refused_by"] = [check.name for check in checks if not check.passed]
    figures["test_set"] = _same_set(test, champion)
    reasons = [check.reason for check in sorted(checks, key=lambda check: check.passed)]
    reasons += _notes(test, champion) + _notes(test, challenger)
    if figures["test_set"] == "changed":
        reasons.append(f"{champion.name} {NEW_SET}.")
    if champion.bundle_sha256 == challenger.bundle_sha256:
        reasons.append("champion and challenger are the same bundle.")
    return Verdict(not figures["refused_by"], reasons, metrics.rounded(figures))


def _answers(one: Contender) -> Contender:
    """A row with NaN or infinity is no answer; else it would win by comparing false with everything."""
    finite = np.isfinite(one.probabilities).all(axis=1, keepdims=True)
    return replace(one, probabilities=np.where(finite, one.probabilities, 0.0))


def _measured(one: Contender, test: HeldOut, bins: int) -> dict[str, Any]:
    chances = one.probabilities
    return {
        "name": one.name,
        "bundle_sha256": one.bundle_sha256,
        "accuracy": paired.ACCURACY.of(chances, test.target),
        "macro_f1": paired.MACRO_F1.of(chances, test.target),
        "nll": -paired.LIKELIHOOD.of(chances, test.target),
        "ece": -paired.calibration(bins).of(chances, test.target),
        "unanswered": int((paired.predicted(chances) < 0).sum()),
        "latency_ms": one.latency_ms,
        "size_bytes": one.size_bytes,
    }


def _rule(match: _Match) -> _Check:
    """Is the chosen metric better, or not worse, than the champion's?"""
    asked, name = match.asked, match.asked.metric
    gain = match.gain(MEASURES[name], alpha=asked.alpha, margin=asked.min_gain)
    better = asked.rule == "better"
    p = gain.p_no_more if better else gain.p_no_less
    shown = p <= asked.alpha
    interval = f"{1 - 2 * asked.alpha:.0%} interval {gain.low:+.3f} to {gain.high:+.3f}"
    reason = (
        f"{name} {_claim(asked, shown)}: {match.after[name]:.3f} against {match.before[name]:.3f}, "
        f"a gain of {gain.value:+.3f} ({interval}), "
        f"p = {p:.2g} where {asked.alpha:g} is the limit"
    )
    found = _mcnemar(match)
    if name == "accuracy":
        alone = f"challenger {found['only_challenger']}, champion {found['only_champion']}"
        reason += f"; right alone: {alone} (McNemar's exact p = {found['p']:.2g})"
    bounds = {"low": gain.low, "high": gain.high, "confidence": 1 - 2 * asked.alpha}
    figures = {"gain": {"metric": name, "value": gain.value, "p": p, **bounds}, "mcnemar": found}
    return _Check("rule", shown == better, f"{reason}.", figures)


def _claim(asked: Thresholds, shown: bool) -> str:
    better = asked.rule == "better"
    if asked.min_gain == 0:
        return f"is {'' if shown else 'not shown to be '}{'better' if better else 'worse'}"
    words = f"{'more' if better else 'less'} than {asked.min_gain:+g}"
    return f"gains {words}" if shown else f"is not shown to gain {words}"


def _mcnemar(match: _Match) -> dict[str, Any]:
    """On single samples, whatever their groups; p is one-sided, for a better challenger."""
    before, after = (paired.predicted(one) == match.test.target for one in match.pair)
    only = {"only_challenger": int((after & ~before).sum()), "only_champion": int((before & ~after).sum())}
    return {**only, "p": paired.sign_test(after.astype(np.int64) - before)}


def _recall(match: _Match) -> _Check:
    """A class fails where its recall fell by more than is allowed and by more than chance explains."""
    asked, labels = match.asked, match.test.labels
    found = paired.recalls(match.pair, match.test.target, match.test.group)
    figures = {"recall": [{**asdict(one), "label": labels[one.label]} for one in found]}
    ranked = sorted(found, key=lambda one: (-one.fall, one.p))
    large = [one for one in ranked if one.fall > asked.max_recall_drop + paired.TIE]
    failed = [one for one in large if one.p <= asked.guard_alpha]
    named = [
        f"{labels[one.label]} from {one.before:.3f} to {one.after:.3f} "
        f"({one.samples} samples, p = {one.p:.2g})"
        for one in failed or large or ranked[:1]
    ]
    classes = f"{len(failed or large) or 'none'} of {len(found)} classes"
    chance = ", which chance does not explain" if failed else ", which chance explains" if large else ""
    words = f"recall fell by more than the {asked.max_recall_drop:g} allowed in {classes}{chance}"
    named[0] = named[0] if large else f"the least good change is {named[0]}"
    return _Check("recall", not failed, f"{words}: {_some(named, '; ')}.", figures)


def _calibration(match: _Match) -> _Check:
    """As for recall, by the tests of the rule."""
    asked = match.asked
    gain = match.gain(paired.calibration(asked.bins), alpha=asked.guard_alpha)
    rise, p = -gain.value, gain.p_no_less
    large = rise > asked.max_ece_rise + paired.TIE
    failed = large and p <= asked.guard_alpha
    chance = f", and chance {'does not explain' if failed else 'explains'} it (p = {p:.2g})" if large else ""
    change = f"from {match.before['ece']:.3f} to {match.after['ece']:.3f}"
    reason = f"calibration error went {change}; a rise of {asked.max_ece_rise:g} is allowed{chance}."
    figures = {"ece_rise": {"value": rise, "low": -gain.high, "high": -gain.low, "p": p}}
    return _Check("calibration", not failed, reason, figures)


def _latency(match: _Match) -> _Check:
    before, after = match.before["latency_ms"], match.after["latency_ms"]
    words = f"a sample takes {after:.2f} ms against {before:.2f} ms"
    return _ratio("latency", words, after / before, match.asked.max_latency_ratio)


def _size(match: _Match) -> _Check:
    before, after = match.before["size_bytes"], match.after["size_bytes"]
    words = f"the bundle has {after:,} bytes against {before:,}"
    return _ratio("size", words, after / before, match.asked.max_size_ratio)


def _ratio(name: str, words: str, ratio: float, limit: float | None) -> _Check:
    allowed = "any are allowed" if limit is None else f"{limit:g} times are allowed"
    reason = f"{words}, {ratio:.2f} times as much; {allowed}."
    return _Check(name, limit is None or ratio <= limit, reason, {f"{name}_ratio": ratio})


def _notes(test: HeldOut, one: Contender) -> list[str]:
    """What counts as wrong without a look: labels that the model lacks, samples it has no answer to."""
    lacks = [name for name in test.labels if name not in one.known]
    with_them = int(np.isin(test.target, [test.labels.index(name) for name in lacks]).sum())
    said = []
    if lacks:
        words = (
            f"the {with_them} test samples with {'it' if len(lacks) == 1 else 'them'} count as wrong for it"
        )
        said.append(f"{one.name} lacks the label{'s' * (len(lacks) > 1)} {_some(lacks, ', ')}: {words}.")
    if silent := int((paired.predicted(one.probabilities) < 0).sum()):
        said.append(f"{one.name} has no answer to {silent} test samples, which count as wrong for it.")
    return said


def _same_set(test: HeldOut, champion: Contender) -> str:
    """Is it the test set that the champion was judged on before?"""
    if champion.judged_on is None:
        return "unknown"
    return "same" if champion.judged_on == test.sha256 else "changed"


def _some(words: Sequence[str], between: str) -> str:
    """The first few, and how many more."""
    more = f"{between}and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return between.join(words[:NAMED]) + more
