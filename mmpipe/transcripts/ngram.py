"""An n-gram language model over units of text: interpolated Kneser-Ney, fitted on the train split.

Kneser and Ney 1995, interpolated as in Chen and Goodman 1999, section 4.1.6: what each order takes
off its counts goes to the order below it, and of the lowest order to all units alike. That discount is
n1 / (n1 + 2 n2), n1 and n2 the order's n-grams seen once and twice (Ney, Essen and Kneser 1994).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

START = -1
"""Stands before a sentence; it also fills n-grams that start a sentence up to the order."""
END = 0
"""Stands after a sentence: the id that CTC has for its blank."""

MOST_KNOWN = 50_000
"""A server asks for ever."""

Context = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ngram:
    """p(next unit or end | the last `order` - 1 units), over `size` ids: `END` and the units 1 … size - 1.

    `grams`: int32 (N, order), sorted rows, every n-gram of the train split with its `counts`, int32 (N,): all
    that the model is. Contexts that were asked for are kept, `MOST_KNOWN` of them at most.
    """

    order: int
    size: int
    grams: NDArray[np.int32]
    counts: NDArray[np.int32]
    _levels: list["_Level"] = field(init=False, repr=False, compare=False)
    _known: dict[Context, NDArray[np.float64]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_levels", _levels(self))

    @property
    def start(self) -> Context:
        """The context in which a sentence starts."""
        return (START,) if self.order > 1 else ()

    def after(self, context: Context, unit: int) -> Context:
        """The context one unit on."""
        return (*context, unit)[-(self.order - 1) :] if self.order > 1 else ()

    def log_probs(self, context: Context) -> NDArray[np.float64]:
        """log p of each next id, (size,), nats; at `END`, that the sentence ends. Not to be written to."""
        if context not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[context] = np.log(self._probs(context))
        return self._known[context]

    def log_prob(self, sentence: Sequence[int]) -> float:
        """log p of a whole sentence and its end."""
        context, total = self.start, 0.0
        for unit in (*sentence, END):
            total += float(self.log_probs(context)[unit])
            context = self.after(context, unit)
        return total

    def perplexity(self, sentences: Iterable[Sequence[int]]) -> float:
        """exp of the mean -log p a unit, sentence ends among them."""
        listed = list(sentences)
        total = sum(map(self.log_prob, listed))
        return float(np.exp(-total / sum(len(sentence) + 1 for sentence in listed)))

    def to_arrays(self) -> dict[str, NDArray[np.int32]]:
        """For the bundle."""
        return {
            "grams": self.grams,
            "counts": self.counts,
            "shape": np.array([self.order, self.size], np.int32),
        }

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[np.int32]]) -> "Ngram":
        """What `to_arrays` gave."""
        order, size = (int(number) for number in arrays["shape"])
        return Ngram(order, size, arrays["grams"], arrays["counts"])

    def _probs(self, context: Context) -> NDArray[np.float64]:
        probs = np.full(self.size, 1 / self.size)
        for length in range(len(context) + 1):
            shorter = context[len(context) - length :]
            row = self._levels[length].rows.get(shorter)
            if row is not None:
                probs *= row.left_over
                probs[row.units] += row.share
        return probs


@dataclass(frozen=True)
class _Row:
    """Of one context: the units seen after it, each one's discounted share, and what is left for others."""

    units: NDArray[np.int64]
    share: NDArray[np.float64]
    left_over: float


@dataclass(frozen=True)
class _Level:
    """All contexts of one length."""

    rows: dict[Context, _Row]


def contradiction(arrays: Mapping[str, NDArray[np.int32]], *, order: int, size: int) -> str:
    """What of a model's arrays does not go together, or nothing."""
    grams, counts = arrays.get("grams"), arrays.get("counts")
    if grams is None or counts is None or grams.shape != (len(counts), order) or not len(counts):
        return f"no counted n-grams of order {order}"
    good = counts.ndim == 1 and counts.min() > 0 and grams.min() >= START and grams[:, -1].min() >= END
    return "" if good and grams.max() < size else f"n-grams of other units than {size}"


def fit(sentences: Iterable[Sequence[int]], *, order: int, size: int) -> Ngram:
    """The model of some sentences of ids 1 … size - 1."""
    counts: Counter[Context] = Counter()
    for sentence in sentences:
        padded = (*[START] * (order - 1), *sentence, END)
        counts.update(padded[place : place + order] for place in range(len(padded) - order + 1))
    grams = sorted(counts)
    return Ngram(
        order,
        size,
        np.array(grams, np.int32).reshape(len(grams), order),
        np.array([counts[gram] for gram in grams], np.int32),
    )


def _levels(model: Ngram) -> list[_Level]:
    """The longest n-grams by how often they come, shorter ones by how many units they come after.

    What starts a sentence comes after nothing else, so there its own count counts.
    """
    longest: Counter[Context] = Counter()
    for row, count in zip(model.grams.tolist(), model.counts.tolist(), strict=True):
        longest[_one_start(row)] += count
    by_length: list[Counter[Context]] = [Counter() for _ in range(model.order)]
    for gram, count in longest.items():
        by_length[len(gram) - 1][gram] += count
    for length in range(model.order - 1, 0, -1):
        for gram in by_length[length]:
            by_length[length - 1][gram[1:]] += 1
    return [_level(counts) for counts in by_length]


def _one_start(row: Sequence[int]) -> Context:
    """A row of `grams` without what fills it up: one `START` says as much as many."""
    starts = sum(unit == START for unit in row)
    return tuple(row[max(0, starts - 1) :])


def _level(counts: Counter[Context]) -> _Level:
    once, twice = (sum(count == n for count in counts.values()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    after: dict[Context, dict[int, int]] = defaultdict(dict)
    for gram, count in counts.items():
        after[gram[:-1]][gram[-1]] = count
    rows = {}
    for context, seen in after.items():
        units = np.array(sorted(seen), np.int64)
        numbers = np.array([seen[unit] for unit in units.tolist()], np.float64)
        total = numbers.sum()
        rows[context] = _Row(units, (numbers - discount) / total, float(discount * len(units) / total))
    return _Level(rows)
