"""What is added to a hypothesis beside what was heard: a score for each next unit, by a state of its own."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmpipe.transcripts.form import normalise
from mmpipe.transcripts.ngram import END, Context, Ngram
from mmpipe.transcripts.units import Units

State = TypeVar("State", bound=Hashable)


class Scorer(Protocol[State]):
    """States are values: the same one always gives the same scores. Scores are nats."""

    @property
    def start(self) -> State:
        """Before the first unit."""

    def scores(self, state: State) -> NDArray[np.float64]:
        """(size,): added for each next id; that of id 0 means nothing. Not to be written to."""

    def after(self, state: State, unit: int) -> State:
        """One unit on."""

    def end(self, state: State) -> float:
        """Added where the text ends in this state."""


@dataclass(frozen=True)
class Language:
    """`weight` × the log-probability by a language model, plus `bonus` a unit.

    A language model always likes a short text better: the bonus evens that out.
    """

    model: Ngram
    weight: float
    bonus: float = 0.0

    @property
    def start(self) -> Context:
        """As `Scorer` says."""
        return self.model.start

    def scores(self, state: Context) -> NDArray[np.float64]:
        """As `Scorer` says."""
        return self.weight * self.model.log_probs(state) + self.bonus

    def after(self, state: Context, unit: int) -> Context:
        """As `Scorer` says."""
        return self.model.after(state, unit)

    def end(self, state: Context) -> float:
        """As `Scorer` says."""
        return self.weight * float(self.model.log_probs(state)[END])


@dataclass
class _Node:
    """Of the tree of expected words: `depth` characters into some of them; `whole`: that is one of them."""

    depth: int
    children: dict[str, int] = field(default_factory=dict)
    whole: bool = False


class Expected:
    """`bonus` a character of an expected word: given as they come, taken back where another follows.

    A word counts when it stands by itself: neither "cat" in "cats" nor "at" in "cat" is one. A state is the
    number of a node, or `LOST` within a word that is not expected.
    """

    LOST = -1

    def __init__(self, words: Iterable[str], units: Units, *, bonus: float) -> None:
        self.start = 0
        self._bonus = bonus
        self._texts = ("", *units.texts)
        self._nodes = [_Node(0)]
        self._known: dict[int, tuple[NDArray[np.float64], list[int]]] = {}
        for word in " ".join(map(normalise, words)).split():
            self._add(word)

    def scores(self, state: int) -> NDArray[np.float64]:
        """As `Scorer` says."""
        return self._row(state)[0]

    def after(self, state: int, unit: int) -> int:
        """As `Scorer` says."""
        return self._row(state)[1][unit]

    def end(self, state: int) -> float:
        """As `Scorer` says."""
        return -self._lent(state)

    def _add(self, word: str) -> None:
        number = 0
        for depth, letter in enumerate(word, 1):
            children = self._nodes[number].children
            if letter not in children:
                children[letter] = len(self._nodes)
                self._nodes.append(_Node(depth))
            number = children[letter]
        self._nodes[number].whole = True

    def _lent(self, state: int) -> float:
        """What is taken back where no character of the same word follows."""
        if state == self.LOST or self._nodes[state].whole:
            return 0.0
        return self._bonus * self._nodes[state].depth

    def _row(self, state: int) -> tuple[NDArray[np.float64], list[int]]:
        if state not in self._known:
            walked = [self._walk(state, text) for text in self._texts]
            self._known[state] = np.array([score for score, _ in walked]), [place for _, place in walked]
        return self._known[state]

    def _walk(self, state: int, text: str) -> tuple[float, int]:
        score = 0.0
        for letter in text:
            if letter == " ":
                score -= self._lent(state)
                state = 0
            elif state != self.LOST:
                node = self._nodes[state]
                child = node.children.get(letter, self.LOST)
                score += self._bonus if child != self.LOST else -self._bonus * node.depth
                state = child
        return score, state
