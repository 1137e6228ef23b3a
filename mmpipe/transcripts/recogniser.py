"""What a model hears in frames → texts: its units, language model and expected words, and their weights."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import InvalidError
from mmpipe.transcripts import ctc, error_rate, ngram
from mmpipe.transcripts.ngram import Ngram
from mmpipe.transcripts.scorer import Expected, Language, Scorer
from mmpipe.transcripts.units import Units

HEARD = "audio"
"""The modality without which there is nothing to write down."""
START = (0.5, 0.5)
"""Weight of the language model and bonus of a unit, with which tuning starts, or stays without utterances."""
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
BONUSES = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
TUNED_ON = 200
"""Utterances at most, evenly over all."""


class Heard(NamedTuple):
    """`log_prob`: of the paths that were followed, nats, whatever language model and expected words say.

    `units`: so many the text has.
    """

    text: str
    log_prob: float
    units: int

    @property
    def confidence(self) -> float:
        """The chance of a unit: their geometric mean."""
        return float(np.exp(self.log_prob / max(1, self.units)))


@dataclass(frozen=True)
class Recogniser:
    """`beam`: else the likeliest path alone, to which nothing is added. `language`: None = there is none."""

    units: Units
    beam: bool = True
    width: int = 32
    language: Language | None = None
    context_bonus: float = 0.0

    def read(self, logits: NDArray[Any], words: str = "") -> Heard:
        """The text of (T, K) logits, NaN past their end. `words`: those that are expected."""
        log_probs = log_softmax(logits[~np.isnan(logits).any(axis=1)])
        if not self.beam:
            ids = ctc.greedy(log_probs)
            return Heard(self.units.decode(ids), float(log_probs.max(axis=1).sum()), len(ids))
        best = ctc.beam_search(log_probs, scorers=self._scorers(words), width=self.width)[0]
        return Heard(self.units.decode(best.ids), best.log_prob, len(best.ids))

    def plain(self) -> "Recogniser":
        """The same without a language model."""
        return replace(self, language=None)

    def greedy(self) -> "Recogniser":
        """The same by the likeliest path alone."""
        return replace(self, beam=False)

    def _scorers(self, words: str) -> list[Scorer[Any]]:
        scorers: list[Scorer[Any]] = [self.language] if self.language is not None else []
        if words and self.context_bonus:
            scorers.append(Expected([words], self.units, bonus=self.context_bonus))
        return scorers


def of(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int32]]) -> Recogniser:
    """As a bundle has it, one without a `contradiction`."""
    units, language = Units.from_json(json.dumps(facts["units"])), None
    if facts["order"]:
        model = Ngram(facts["order"], units.size, arrays["grams"], arrays["counts"])
        language = Language(model, facts["language_weight"], facts["unit_bonus"])
    return Recogniser(
        units,
        beam=facts["decoding"] == "beam",
        width=facts["width"],
        language=language,
        context_bonus=facts["context_bonus"],
    )


def contradiction(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int32]], *, outputs: int) -> str:
    """What in a bundle's decoding does not go together, or nothing."""
    try:
        size = Units.from_json(json.dumps(facts.get("units"))).size
    except InvalidError as error:
        return f"decoding {error.what}"
    if size != outputs:
        return f"{size - 1} units and a blank for {outputs} outputs"
    order = facts.get("order")
    numbers = ["context_bonus", *(["language_weight", "unit_bonus"] if order else [])]
    if not all(type(facts.get(name)) in (int, float) and math.isfinite(facts[name]) for name in numbers):
        return f"no number for {' or '.join(numbers)}"
    if facts.get("decoding") not in ("greedy", "beam") or not _within(facts.get("width"), 1, 1_024):
        return "no way to decode"
    if not _within(order, 0, 10) or bool(order) != bool(arrays):
        return f"arrays of {', '.join(sorted(arrays)) or 'nothing'} for a language model of order {order}"
    return ngram.contradiction(arrays, order=int(str(order)), size=outputs) if order else ""


def _within(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(T, K) → natural logarithms of probabilities."""
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def tune(  # noqa: PLR0913  utterances, and what may be chosen for them
    model: Ngram,
    units: Units,
    logits: Sequence[NDArray[Any]],
    references: Sequence[str],
    *,
    expected: Sequence[Expected | None] = (),
    weights: Sequence[float] = WEIGHTS,
    bonuses: Sequence[float] = BONUSES,
    width: int,
) -> tuple[float, float]:
    """The weight of the language model and the bonus of a unit that give the fewest errors of words.

    Of each utterance, (T, K) logits, the texts of one beam are ranked anew with every pair of the two, beside
    the words that are `expected` of it; of equally good pairs that with the fewest errors of characters is
    taken, then the smallest weight. Without an utterance it is `START` where there is a choice.
    """
    choices = list(product(weights, bonuses))
    if not len(logits) or len(choices) == 1:
        pick = [of[0] if len(of) == 1 else start for of, start in zip((weights, bonuses), START, strict=True)]
        return pick[0], pick[1]
    places = np.linspace(0, len(logits) - 1, min(len(logits), TUNED_ON)).astype(int).tolist()
    beams = []
    for n in places:
        words = expected[n] if expected else None
        scorers: list[Scorer[Any]] = [Language(model, *START), *([words] if words else [])]
        beams.append(ctc.beam_search(log_softmax(logits[n]), scorers=scorers, width=width))
    edits = _edits([references[n] for n in places], beams, units)
    known = [np.array([model.log_prob(one.ids) for one in beam]) for beam in beams]
    sizes = [np.array([len(one.ids) for one in beam]) for beam in beams]
    heard = [  # and expected: all but what the language model said
        np.array([one.score for one in beam]) - START[0] * k - START[1] * s
        for beam, k, s in zip(beams, known, sizes, strict=True)
    ]

    def errors(weight: float, bonus: float) -> tuple[int, int]:
        best = [
            edit[int((h + weight * k + bonus * s).argmax())]
            for edit, h, k, s in zip(edits, heard, known, sizes, strict=True)
        ]
        return sum(w for w, _ in best), sum(c for _, c in best)

    return min(choices, key=lambda pair: (errors(*pair), pair[0], abs(pair[1])))


def _edits(
    references: Sequence[str], beams: Sequence[Sequence[ctc.Hypothesis]], units: Units
) -> list[list[tuple[int, int]]]:
    """Errors of words and of characters of each hypothesis."""
    told = [text for text, beam in zip(references, beams, strict=True) for _ in beam]
    heard = [units.decode(one.ids) for beam in beams for one in beam]
    counts = (of(told, heard).edits.tolist() for of in (error_rate.words, error_rate.characters))
    pairs = list(zip(*counts, strict=True))
    ends = np.cumsum([len(beam) for beam in beams]).tolist()
    return [pairs[end - len(beam) : end] for end, beam in zip(ends, beams, strict=True)]
