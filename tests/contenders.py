"""Made contenders for the gate: models that are right where one says, as sure as one says."""

from dataclasses import replace

import numpy as np

from mmpipe.gate import Contender, HeldOut, Thresholds, judge

LABELS = ["ant", "bee", "cat"]
ASKED = Thresholds(resamples=500)


def held_out(target, groups=None):
    wanted = np.asarray(target, int)
    names = np.arange(len(wanted)) if groups is None else np.asarray(groups)
    return HeldOut(wanted, names.astype(str), LABELS, "abc")


def contender(name, right, target, *, sure=0.8, **other):
    """A model that is right on some samples, else says the next label; `sure` of each answer."""
    wanted = np.asarray(target, int)
    given_labels = np.where(right, wanted, (wanted + 1) % 3)
    rest = (1 - sure) / 2
    chances = np.full((len(target), 3), rest) + (sure - rest) * np.eye(3)[given_labels]
    facts = {"known": LABELS, "latency_ms": 2.0, "size_bytes": 1000, "bundle_sha256": name, **other}
    return Contender(name, chances, **facts)


def first(count, of):
    """`count` samples right, the first ones."""
    return np.arange(of) < count


def fight(before, after, *, asked=ASKED, target=None, groups=None, champion=None, challenger=None):
    """The verdict on a challenger that is right on `after` where the champion is right on `before`."""
    wanted = np.zeros(len(before), int) if target is None else np.asarray(target)
    return judge(
        held_out(wanted, groups),
        contender("old", before, wanted, **(champion or {})),
        contender("new", after, wanted, **(challenger or {})),
        asked,
    )


def loose(**other):
    """Thresholds of which only the named ones can refuse."""
    free = {"max_recall_drop": 1.0, "max_ece_rise": 1.0, "max_latency_ratio": None, "max_size_ratio": None}
    return replace(ASKED, **{"rule": "not_worse", "alpha": 1e-9, **free, **other})
