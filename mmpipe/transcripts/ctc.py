"""From a log-probability of each unit in each frame to text: connectionist temporal classification, decoded.

A path names a unit or the blank in each frame; its text is what is left without repetitions, then without
blanks (Graves et al. 2006). A text is as likely as all its paths together.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpipe.transcripts.scorer import Scorer
from mmpipe.transcripts.units import BLANK

Array = NDArray[np.float64]


class Hypothesis(NamedTuple):
    """`ids` of units. `log_prob`: of all paths that were followed. `score`: with what scorers add, nats."""

    ids: tuple[int, ...]
    log_prob: float
    score: float


def greedy(log_probs: NDArray[Any]) -> tuple[int, ...]:
    """The text of the likeliest path of (frames, ids)."""
    return collapsed(np.asarray(log_probs).argmax(1).tolist() if len(log_probs) else [])


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    """The text of a path: without repetitions, then without blanks."""
    return tuple(unit for unit, _ in groupby(path) if unit != BLANK)


def needed_frames(ids: Sequence[int]) -> int:
    """Frames that a text needs at least: one a unit, and a blank between two that are the same."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))


def beam_search(
    log_probs: NDArray[Any],
    *,
    scorers: Sequence[Scorer[Any]] = (),
    width: int = 32,
    min_log_prob: float = -9.0,
) -> list[Hypothesis]:
    """The likeliest texts of (frames, ids), best first: at most `width`, as many as are followed at a time.

    A frame's units below `min_log_prob` start nothing in it (-inf: all do). With a wide enough beam and no
    such limit the probabilities are exact (Hannun et al. 2014, algorithm 1, with the scorers' sum in place of
    a language model).
    """
    beam = _Beam.start(scorers, np.asarray(log_probs).shape[1])
    for frame in np.asarray(log_probs, np.float64):
        beam = beam.advance(frame, width, min_log_prob)
    return beam.ended()


@dataclass
class _Trie:
    """All prefixes that were followed. `units[i]` comes after prefix `parents[i]`; 0 is the empty one."""

    scorers: Sequence[Scorer[Any]]
    size: int
    parents: list[int]
    units: list[int]
    children: dict[tuple[int, int], int]
    states: list[tuple[Hashable, ...]]

    def child(self, parent: int, unit: int) -> int:
        found = self.children.setdefault((parent, unit), len(self.units))
        if found == len(self.units):
            self.parents.append(parent)
            self.units.append(unit)
            before = zip(self.scorers, self.states[parent], strict=True)
            self.states.append(tuple(scorer.after(state, unit) for scorer, state in before))
        return found

    def scores(self, prefix: int) -> Array:
        """(size,): what the scorers add for each next unit."""
        total = np.zeros(self.size)
        for scorer, state in zip(self.scorers, self.states[prefix], strict=True):
            total += scorer.scores(state)
        return total

    def end(self, prefix: int) -> float:
        return sum(s.end(state) for s, state in zip(self.scorers, self.states[prefix], strict=True))

    def ids(self, prefix: int) -> tuple[int, ...]:
        found = []
        while prefix:
            found.append(self.units[prefix])
            prefix = self.parents[prefix]
        return tuple(reversed(found))


@dataclass
class _Beam:
    """B prefixes. `blank`, `unit`: log p (B,) of the paths of each that end in a blank, in its last unit.

    `added` (B,): by the scorers so far; `next_scores` (B, ids): for one unit more. `last` (B,): 0 for the
    empty prefix. `parent` (B,): where in the beam the prefix without its last unit is, -1 where it is not.
    """

    trie: _Trie
    prefixes: list[int]
    blank: Array
    unit: Array
    added: Array
    next_scores: Array
    last: NDArray[np.int64]
    parent: NDArray[np.int64]

    @staticmethod
    def start(scorers: Sequence[Scorer[Any]], size: int) -> "_Beam":
        trie = _Trie(scorers, size, [-1], [BLANK], {}, [tuple(scorer.start for scorer in scorers)])
        one = np.zeros(1)
        empty = np.zeros(1, np.int64)
        return _Beam(trie, [0], one, one - np.inf, one, trie.scores(0)[None], empty, empty - 1)

    def advance(self, frame: Array, width: int, min_log_prob: float) -> "_Beam":
        """One frame on. Each prefix stays, or grows by a unit that the frame has."""
        heard = 1 + np.flatnonzero(frame[1:] >= min_log_prob)
        total = np.logaddexp(self.blank, self.unit)
        blank = total + frame[BLANK]
        unit = self.unit + frame[self.last]
        again = self.last[:, None] == heard
        grown = np.where(again, self.blank[:, None], total[:, None]) + frame[heard]
        self._join(unit, grown, heard)
        stay = np.logaddexp(blank, unit) + self.added
        grow = grown + self.added[:, None] + self.next_scores[:, heard]
        ranked = np.concatenate([stay, grow.ravel()])
        best = np.argsort(-ranked, kind="stable")[:width]
        best = best[ranked[best] > -np.inf]
        return self._chosen(best, blank, unit, grown, heard)

    def _join(self, unit: Array, grown: Array, heard: NDArray[np.int64]) -> None:
        """A prefix that grows into another one of the beam adds to that one's paths."""
        children = np.flatnonzero(self.parent >= 0)
        place = np.searchsorted(heard, self.last[children])
        there = place < len(heard)
        there[there] = heard[place[there]] == self.last[children[there]]
        children, place = children[there], place[there]
        parents = self.parent[children]
        unit[children] = np.logaddexp(unit[children], grown[parents, place])
        grown[parents, place] = -np.inf

    def _chosen(
        self, best: NDArray[np.int64], blank: Array, unit: Array, grown: Array, heard: NDArray[np.int64]
    ) -> "_Beam":
        old = len(self.prefixes)
        new = best >= old
        source = np.where(new, (best - old) // max(len(heard), 1), best)
        column = np.where(new, (best - old) % max(len(heard), 1), 0)
        units = heard[column] if len(heard) else np.zeros(len(best), np.int64)
        prefixes = [
            self.trie.child(self.prefixes[at], one) if grows else self.prefixes[at]
            for at, one, grows in zip(source.tolist(), units.tolist(), new.tolist(), strict=True)
        ]
        place = {prefix: at for at, prefix in enumerate(prefixes)}
        scores = [
            self.trie.scores(prefix) if grows else self.next_scores[at]
            for prefix, at, grows in zip(prefixes, source.tolist(), new.tolist(), strict=True)
        ]
        return _Beam(
            self.trie,
            prefixes,
            np.where(new, -np.inf, blank[source]),
            np.where(new, grown[source, column] if len(heard) else -np.inf, unit[source]),
            self.added[source] + np.where(new, self.next_scores[source, units], 0),
            np.stack(scores),
            np.where(new, units, self.last[source]),
            np.array([place.get(self.trie.parents[prefix], -1) for prefix in prefixes]),
        )

    def ended(self) -> list[Hypothesis]:
        total = np.logaddexp(self.blank, self.unit)
        found = [
            Hypothesis(self.trie.ids(p), float(t), float(t + a) + self.trie.end(p))
            for p, t, a in zip(self.prefixes, total, self.added, strict=True)
        ]
        return sorted(found, key=lambda one: (-one.score, one.ids))
