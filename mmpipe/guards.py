"""What the gate asks of models that choose one label: accuracy, each class's recall, calibration."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mmpipe import multilabel_scorecard, paired
from mmpipe.metrics import Floats
from mmpipe.verdict import Check, Contender, HeldOut, Match, Rules, Thresholds, some


def mcnemar(match: Match) -> dict[str, Any]:
    """On single samples, whatever their groups; p is one-sided, for a better challenger."""
    before, after = (paired.predicted(one) == match.test.target for one in match.pair)
    only = {"only_challenger": int((after & ~before).sum()), "only_champion": int((before & ~after).sum())}
    return {**only, "p": paired.sign_test(after.astype(np.int64) - before)}


def recall(match: Match) -> Check:
    """A class fails where its recall fell by more than is allowed and by more than chance explains."""
    return _recalls(match, paired.recalls(match.pair, match.test.target, match.test.group))


def label_recall(match: Match) -> Check:
    """The same of each of several labels."""
    before, after = (one > 0 for one in match.pair)
    return _recalls(match, paired.recalls_of(before, after, match.test.target > 0, match.test.group))


def _recalls(match: Match, found: Sequence[paired.Recall]) -> Check:
    asked, labels = match.asked, match.test.labels
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
    return Check("recall", not failed, f"{words}: {some(named, '; ')}.", figures)


def calibration(match: Match) -> Check:
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
    return Check("calibration", not failed, reason, figures)


def notes(test: HeldOut, one: Contender) -> list[str]:
    """What counts as wrong without a look: labels that the model lacks, samples it has no answer to."""
    lacks = [name for name in test.labels if name not in one.known]
    with_them = int(np.isin(test.target, [test.labels.index(name) for name in lacks]).sum())
    said = _lacking(one, lacks, with_them)
    if silent := int((paired.predicted(one.answers) < 0).sum()):
        said.append(f"{one.name} has no answer to {silent} test samples, which count as wrong for it.")
    return said


def lacking_notes(test: HeldOut, one: Contender) -> list[str]:
    """The same of several labels: those that the model lacks it never gives."""
    lacks = [name for name in test.labels if name not in one.known]
    places = [test.labels.index(name) for name in lacks]
    return _lacking(one, lacks, int(test.target[:, places].any(axis=1).sum()))


def _lacking(one: Contender, lacks: Sequence[str], with_them: int) -> list[str]:
    if not lacks:
        return []
    words = f"the {with_them} test samples with {'it' if len(lacks) == 1 else 'them'} count as wrong for it"
    return [f"{one.name} lacks the label{'s' * (len(lacks) > 1)} {some(lacks, ', ')}: {words}."]


def _told(metric: str, found: dict[str, Any]) -> str:
    if metric != "accuracy":
        return ""
    mcnemar = found["mcnemar"]
    alone = f"challenger {mcnemar['only_challenger']}, champion {mcnemar['only_champion']}"
    return f"; right alone: {alone} (McNemar's exact p = {mcnemar['p']:.2g})"


def _clean(answers: Floats) -> Floats:
    """A row with NaN or infinity is no answer; else it would win by comparing false with everything."""
    finite = np.isfinite(answers).all(axis=1, keepdims=True)
    return np.where(finite, answers, 0.0)


def _extra(one: Contender, test: HeldOut, asked: Thresholds) -> dict[str, Any]:
    return {
        "ece": -paired.calibration(asked.bins).of(one.answers, test.target),
        "unanswered": int((paired.predicted(one.answers) < 0).sum()),
    }


LABELS = Rules(
    headline="accuracy",
    measures={"accuracy": paired.ACCURACY, "macro_f1": paired.MACRO_F1, "nll": paired.LIKELIHOOD},
    lower=frozenset({"nll"}),
    guards=(recall, calibration),
    clean=_clean,
    beside=lambda match: {"mcnemar": mcnemar(match)},
    told=_told,
    extra=_extra,
    notes=notes,
)
"""For models that choose one label."""


SEVERAL_LABELS = Rules(
    headline="micro_f1",
    measures={
        "micro_f1": multilabel_scorecard.MICRO_F1,
        "macro_f1": multilabel_scorecard.MACRO_F1,
        "subset_accuracy": multilabel_scorecard.SUBSET_ACCURACY,
    },
    guards=(label_recall,),
    clean=_clean,
    notes=lacking_notes,
)
"""For models that give any number of labels: (N, K), 1 for each that is given."""
