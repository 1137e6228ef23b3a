"""How often the gate promotes: equal models (falsely), models with a true gain, models that lost one class.

    python benchmarks/gate.py                                   # 200 pairs of each kind
    python benchmarks/gate.py --kind equal --pairs 2000 --metric nll

Both models of a pair answer the same made samples: logits are the target's signal, noise that both share
(as two seeds of one model do) and noise of their own. Near-duplicates share a group, a target and most noise.
Probabilities are the exact ones for such noise, so both models are calibrated. Seeds are fixed.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from mmpipe import gate, guards, metrics

Floats = NDArray[np.float64]

PRIOR = np.array([8, 6, 5, 4, 3, 3, 2, 1]) / 32
"""Of the classes: uneven, as real ones are."""
SHARED, ALIKE = 0.8, 0.8
"""Of the noise's variance: shared by the two models; shared by the samples of a group."""
GROUPS = 0.88
"""Groups, as a share of the samples: that of `stamps`."""
ACCURACY = 0.62
GAINS = {"equal": 0.0, "gain 2": 0.02, "gain 5": 0.05, "gain 10": 0.1, "gain 10, one class lost": 0.1}
LOST, LOSS = 1, 2.5
"""A challenger that lost a class: which one, and by how many nats its odds are lowered."""
Z95 = 1.959964


def main() -> None:
    """Parse, judge, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--samples", type=int, nargs="*", default=[132, 1000])
    parser.add_argument("--kind", nargs="*", default=list(GAINS), choices=list(GAINS))
    parser.add_argument("--metric", default="accuracy", choices=list(guards.LABELS.measures))
    parser.add_argument("--rule", default="better", choices=["better", "not_worse"])
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()
    asked = gate.Thresholds(metric=options.metric, rule=options.rule, resamples=options.resamples)
    print("| test samples | challenger | measured gain | promoted | 95 % interval | refused by |")
    print("|---|---|---|---|---|---|")
    for samples in options.samples:
        for kind in options.kind:
            verdicts = [
                gate.judge(*pair, asked) for pair in pairs(kind, samples=samples, count=options.pairs)
            ]
            print(row(samples, kind, verdicts), flush=True)


def row(samples: int, kind: str, verdicts: list[gate.Verdict]) -> str:
    """A line of the table."""
    promoted = sum(verdict.promote for verdict in verdicts)
    low, high = wilson(promoted, len(verdicts))
    gain = np.mean([verdict.figures["gain"]["value"] for verdict in verdicts])
    by = Counter(name for verdict in verdicts for name in verdict.figures["refused_by"])
    refused = ", ".join(f"{name} {count / len(verdicts):.1%}" for name, count in by.most_common())
    share = f"{promoted / len(verdicts):.1%} | {low:.1%} to {high:.1%}"
    return f"| {samples} | {kind} | {gain:+.3f} | {share} | {refused} |"


def pairs(
    kind: str, *, samples: int, count: int
) -> Iterator[tuple[gate.HeldOut, gate.Contender, gate.Contender]]:
    """`count` arguments for `gate.judge`, always the same ones."""
    signals = signal(ACCURACY), signal(round(ACCURACY + GAINS[kind], 6))
    for number in range(count):
        rng = np.random.default_rng([samples, number])
        group = rng.permutation(np.arange(samples) % max(1, int(GROUPS * samples)))
        target = rng.choice(len(PRIOR), group.max() + 1, p=PRIOR)[group]
        shared = noise(rng, group)
        made = []
        for strength in signals:
            mixed = sqrt(SHARED) * shared + sqrt(1 - SHARED) * noise(rng, group)
            made.append(answers(mixed, target, strength))
        if "lost" in kind:
            made[1][:, LOST] *= np.exp(-LOSS)
            made[1] /= made[1].sum(axis=1, keepdims=True)
        labels = [f"class {label}" for label in range(len(PRIOR))]
        held_out = gate.HeldOut(target, group.astype(str), labels, "")
        champion, challenger = (
            gate.Contender(name, chances, labels, 1.0, 1, name)
            for name, chances in zip(("champion", "challenger"), made, strict=True)
        )
        yield held_out, champion, challenger


def noise(rng: np.random.Generator, group: NDArray[np.int64]) -> Floats:
    """(N, K) of variance 1, much alike within a group."""
    groups = rng.normal(size=(group.max() + 1, len(PRIOR)))
    return sqrt(ALIKE) * groups[group] + sqrt(1 - ALIKE) * rng.normal(size=(len(group), len(PRIOR)))


def answers(mixed: Floats, target: NDArray[np.int64], strength: float) -> Floats:
    """The exact probabilities of each class, given `strength` at the target's place plus the noise."""
    seen = strength * np.eye(len(PRIOR))[target] + mixed
    return metrics.softmax(strength * seen + np.log(PRIOR))


@cache
def signal(accuracy: float) -> float:
    """The strength that gives an accuracy, by bisection on 100,000 made samples."""
    rng = np.random.default_rng(0)
    target = rng.choice(len(PRIOR), 100_000, p=PRIOR)
    mixed, low, high = rng.normal(size=(len(target), len(PRIOR))), 0.0, 8.0
    for _ in range(30):
        middle = (low + high) / 2
        right = (answers(mixed, target, middle).argmax(axis=1) == target).mean()
        low, high = (middle, high) if right < accuracy else (low, middle)
    return low


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, weight = hits / count, Z95**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = Z95 * sqrt(share * (1 - share) / count + weight / 4 / count) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


if __name__ == "__main__":
    main()
