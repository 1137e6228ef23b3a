"""May this model take the champion's place? A verdict with reasons, from both models' answers."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from mmpipe import metrics
from mmpipe.errors import InvalidError
from mmpipe.guards import LABELS
from mmpipe.verdict import Check, Contender, HeldOut, Match, Rules, Thresholds, Verdict

__all__ = ["Contender", "HeldOut", "Thresholds", "Verdict", "judge"]

NEW_SET = (
    "was judged on another test set before: both models were judged anew on this one, and samples that are "
    "new to it may be among those that the champion was trained on"
)


def judge(
    test: HeldOut,
    champion: Contender | None,
    challenger: Contender,
    asked: Thresholds,
    rules: Rules = LABELS,
) -> Verdict:
    """Compare both on the same samples; without a champion the challenger is promoted as it is.

    A function of its arguments alone. Raises InvalidError `split-too-few` where there is no sample, `params`
    for a metric that the rules do not have.
    """
    if not len(test.target):
        raise InvalidError("split-too-few", "no test sample to judge on", fix="raise split.test_fraction")
    asked = _resolved(asked, rules)
    challenger = replace(challenger, answers=rules.clean(challenger.answers))
    figures: dict[str, Any] = {
        "samples": len(test.target),
        "groups": len(np.unique(test.group)),
        "test_sha256": test.sha256,
        "champion": None,
        "challenger": _measured(challenger, test, asked, rules),
        "thresholds": asdict(asked),
    }
    if champion is None:
        words = f"there is no champion: {challenger.name} is the first, so it is promoted as it is."
        return Verdict(True, [words, *rules.notes(test, challenger)], metrics.rounded(figures))
    champion = replace(champion, answers=rules.clean(champion.answers))
    figures["champion"] = _measured(champion, test, asked, rules)
    pair = (champion.answers, challenger.answers)
    match = Match(test, pair, figures["champion"], figures["challenger"], asked)
    checks = [_rule(match, rules), *(check(match) for check in (*rules.guards, _latency, _size))]
    for check in checks:
        figures |= check.figures
    figures["refused_by"] = [check.name for check in checks if not check.passed]
    figures["test_set"] = _same_set(test, champion)
    reasons = [check.reason for check in sorted(checks, key=lambda check: check.passed)]
    reasons += rules.notes(test, champion) + rules.notes(test, challenger)
    if figures["test_set"] == "changed":
        reasons.append(f"{champion.name} {NEW_SET}.")
    if champion.bundle_sha256 == challenger.bundle_sha256:
        reasons.append("champion and challenger are the same bundle.")
    return Verdict(not figures["refused_by"], reasons, metrics.rounded(figures))


def _resolved(asked: Thresholds, rules: Rules) -> Thresholds:
    """With the metric by its name."""
    name = rules.headline if asked.metric == "auto" else asked.metric
    if name not in rules.measures:
        what = f"gate.metric is {name!r}, and models of this task have {', '.join(rules.measures)}"
        raise InvalidError("params", what)
    return replace(asked, metric=name)


def _measured(one: Contender, test: HeldOut, asked: Thresholds, rules: Rules) -> dict[str, Any]:
    return {
        "name": one.name,
        "bundle_sha256": one.bundle_sha256,
        **rules.figures(one, test),
        **rules.extra(one, test, asked),
        "latency_ms": one.latency_ms,
        "size_bytes": one.size_bytes,
    }


def _rule(match: Match, rules: Rules) -> Check:
    """Is the chosen metric better, or not worse, than the champion's?"""
    asked, name = match.asked, match.asked.metric
    gain = match.gain(rules.measures[name], alpha=asked.alpha, margin=asked.min_gain)
    better = asked.rule == "better"
    p = gain.p_no_more if better else gain.p_no_less
    shown = p <= asked.alpha
    interval = f"{1 - 2 * asked.alpha:.0%} interval {gain.low:+.3f} to {gain.high:+.3f}"
    reason = (
        f"{name} {_claim(asked, shown)}: {match.after[name]:.3f} against {match.before[name]:.3f}, "
        f"a gain of {gain.value:+.3f} ({interval}), "
        f"p = {p:.2g} where {asked.alpha:g} is the limit"
    )
    found = rules.beside(match)
    bounds = {"low": gain.low, "high": gain.high, "confidence": 1 - 2 * asked.alpha}
    figures = {"gain": {"metric": name, "value": gain.value, "p": p, **bounds}, **found}
    return Check("rule", shown == better, f"{reason}{rules.told(name, found)}.", figures)


def _claim(asked: Thresholds, shown: bool) -> str:
    better = asked.rule == "better"
    if asked.min_gain == 0:
        return f"is {'' if shown else 'not shown to be '}{'better' if better else 'worse'}"
    words = f"{'more' if better else 'less'} than {asked.min_gain:+g}"
    return f"gains {words}" if shown else f"is not shown to gain {words}"


def _latency(match: Match) -> Check:
    before, after = match.before["latency_ms"], match.after["latency_ms"]
    words = f"a sample takes {after:.2f} ms against {before:.2f} ms"
    return _ratio("latency", words, after / before, match.asked.max_latency_ratio)


def _size(match: Match) -> Check:
    before, after = match.before["size_bytes"], match.after["size_bytes"]
    words = f"the bundle has {after:,} bytes against {before:,}"
    return _ratio("size", words, after / before, match.asked.max_size_ratio)


def _ratio(name: str, words: str, ratio: float, limit: float | None) -> Check:
    allowed = "any are allowed" if limit is None else f"{limit:g} times are allowed"
    reason = f"{words}, {ratio:.2f} times as much; {allowed}."
    return Check(name, limit is None or ratio <= limit, reason, {f"{name}_ratio": ratio})


def _same_set(test: HeldOut, champion: Contender) -> str:
    """Is it the test set that the champion was judged on before?"""
    if champion.judged_on is None:
        return "unknown"
    return "same" if champion.judged_on == test.sha256 else "changed"
