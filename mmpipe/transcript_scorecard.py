"""Transcripts of held-out samples → how many words and characters are wrong, and what helps against it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmpipe import findings, metrics, paired, scorecard
from mmpipe.errors import InvalidError
from mmpipe.metrics import Estimate, Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.transcripts import ctc, error_rate
from mmpipe.transcripts.form import normalise
from mmpipe.transcripts.recogniser import HEARD, Recogniser
from mmpipe.verdict import Contender, HeldOut, Rules

FIGURES = {"wer": "WER", "cer": "CER"}
GREEDY, BEAM = "greedy", "beam"
LANGUAGE, CONTEXT = "language model", "expected words"
Texts = Sequence[str]


def columns(heard: Texts, told: Texts) -> Floats:
    """What to sum for all figures: (N, 4) errors of words, words, errors of characters, characters."""
    words, letters = error_rate.words(told, heard), error_rate.characters(told, heard)
    parts = [words.edits, words.lengths, letters.edits, letters.lengths]
    return np.stack(parts, axis=1).astype(np.float64)


def figures(sums: Floats) -> Floats:
    """(n, 4) sums → (n, 2): WER, CER."""
    return np.asarray(sums[:, ::2] / np.maximum(sums[:, 1::2], 1))


def ways(recogniser: Recogniser, *, context: bool) -> dict[str, tuple[Recogniser, bool]]:
    """{name: how to decode, and whether with expected words}: the answer's own way is the last one."""
    found = {GREEDY: (recogniser.greedy(), False)}
    if not recogniser.beam:
        return found
    found[BEAM] = (recogniser.plain(), False)
    context = context and recogniser.context_bonus > 0
    if recogniser.language is not None:
        found[LANGUAGE] = (recogniser, False)
    if context:
        found[CONTEXT] = (recogniser.plain(), True)
    if recogniser.language is not None and context:
        found[f"{LANGUAGE} + {CONTEXT}"] = (recogniser, True)
    return found


def read(scores: Scores, recogniser: Recogniser, *, context: bool, rows: Sequence[int]) -> list[str]:
    """The texts of some samples, with their expected words or without them."""
    logits = scores.logits[scores.full]
    words = scores.words if context else ()
    return [recogniser.read(logits[row], words[row] if words else "").text for row in rows]


def measure(scores: Scores, recogniser: Recogniser, *, resamples: int) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    The top level is about the way in which the model answers; `decoding` has every way. `too_short`: samples
    with fewer frames than their transcript needs, which no decoding gets right. Raises InvalidError
    `split-too-few` where no sample has a recording.
    """
    inside = np.flatnonzero(scores.present[HEARD])
    if not len(inside):
        fix = f"raise split.{scores.split}_fraction, or add recordings"
        raise InvalidError("split-too-few", f"no {scores.split} sample has a recording", fix=fix)
    told = [normalise(str(scores.cells[row])) for row in inside.tolist()]
    group = scores.group[inside]
    counts = {
        name: columns(read(scores, how, context=context, rows=inside.tolist()), told)
        for name, (how, context) in ways(recogniser, context=bool(scores.words)).items()
    }
    names = list(counts)
    found = {name: _estimates(of, group, resamples) for name, of in counts.items()}
    flat = {
        name: {key: value for figure, one in of.items() for key, value in one.paired(figure).items()}
        | {"samples": len(inside)}
        for name, of in found.items()
    }
    answer = counts[names[-1]]
    result: Numbers = {
        **{key: value for figure, one in found[names[-1]].items() for key, value in one.flat(figure).items()},
        "right": float((answer[:, 0] == 0).mean()),
        "too_short": too_short(scores.target[inside], scores.logits[scores.full][inside]),
        **scorecard.accounts(scores),
        "samples": len(inside),
        "samples_left_out": len(scores.ids) - len(inside),
        "decoding": flat,
        "subsets": _subsets(scores, flat),
        **_gains(counts, group, resamples),
    }
    rounded: Numbers = metrics.rounded(result)
    return rounded


def too_short(target: NDArray[np.int64], logits: NDArray[Any]) -> int:
    """How many have fewer frames than their transcript needs. `target`: (N, L), -1 past the end of each."""
    steps = (~np.isnan(logits).any(axis=2)).sum(axis=1) if logits.size else np.zeros(len(target))
    needed = [ctc.needed_frames(ids[ids >= 0].tolist()) for ids in target]
    return int((steps < np.array(needed)).sum())


def told(found: Mapping[str, Any], predictions: pa.Table) -> dict[str, Any]:
    """For people, as `findings` has it. `predictions`: of val and test."""
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    counts = columns([row["prediction"] for row in rows], [row["target"] for row in rows])
    share = (counts[:, 2] / np.maximum(counts[:, 3], 1)).tolist()
    spread = findings.chart(
        "histogram", "Errors of each transcript, test", values=share, xlabel="errors a character of the truth"
    )
    return {
        "task": "transcribe",
        "kind": "text",
        "learns": "What is said",
        "says": "A transcript in lower case, without punctuation",
        "index": [{"type": name, "name": word, "value": found[name]} for name, word in FIGURES.items()],
        "headline": [
            *(
                findings.tile(word, found[name], "share", **findings.interval(found, name))
                for name, word in FIGURES.items()
            ),
            findings.tile("Right as a whole", found["right"], "share"),
        ],
        "verdict": "; ".join(gains(found)),
        "sections": [
            findings.section("decoding", "What helps", _short_of_frames(found), _decoding(found)),
            findings.section("errors", "Errors", "", [spread]),
        ],
        "exhibits": _exhibits(rows, share),
    }


def summary(found: Mapping[str, Any]) -> str:
    """The stage's row accounting and headline, in one line."""
    rates = (
        f"{word} {found[name]:.3f} [{found[f'{name}_low']:.3f}, {found[f'{name}_high']:.3f}]"
        for name, word in FIGURES.items()
    )
    short = [words] if (words := _short_of_frames(found)) else []
    return "; ".join([scorecard.counted(dict(found)), ", ".join(rates), *gains(found), *short])


def gains(found: Mapping[str, Any]) -> list[str]:
    """A sentence a help: whether it lowers the WER."""
    sentences = []
    for name, one in found.get("gains", {}).items():
        low, high = one["wer_95"]
        word = "lowers" if low > 0 else "raises" if high < 0 else "does not show to change"
        change, least, most = (findings.signed(0 - value) for value in (one["wer"], high, low))
        sentences.append(f"{name} {word} the WER: {change} [{least}, {most}]")
    return sentences


def _estimates(counts: Floats, group: NDArray[np.str_], resamples: int) -> dict[str, Estimate]:
    return dict(zip(FIGURES, metrics.estimates(counts, group, figures, resamples=resamples), strict=True))


def _subsets(scores: Scores, flat: Mapping[str, Numbers]) -> Numbers:
    """Of the modalities: a text alone is heard nowhere, and without it there are no expected words."""
    names = list(flat)
    without = [name for name in names if CONTEXT not in name][-1]
    found = {subset: {"samples": 0} for subset in scores.logits}
    return found | {HEARD: flat[without], scores.full: flat[names[-1]]}


def _gains(counts: Mapping[str, Floats], group: NDArray[np.str_], resamples: int) -> dict[str, Numbers]:
    """By how much each help lowers the WER, beside all others that there are: paired, with its interval."""
    names, found = list(counts), {}
    if len(names) < 2:
        return {}
    for name in [LANGUAGE, CONTEXT]:
        rest = [one for one in (CONTEXT, LANGUAGE) if one != name]
        before = rest[0] if rest[0] in names else BEAM
        if name not in names:
            continue
        pair = np.concatenate([counts[before], counts[names[-1]]], axis=1)
        [gain] = metrics.estimates(pair, group, _less, resamples=resamples)
        found[name] = {"beside": before, **gain.paired("wer")}
    return {"gains": found} if found else {}


def _less(sums: Floats) -> Floats:
    """(n, 8) sums of two ways → (n, 1): how much lower the WER of the second is."""
    return np.asarray(figures(sums[:, :4])[:, :1] - figures(sums[:, 4:])[:, :1])


def _short_of_frames(found: Mapping[str, Any]) -> str:
    number = found["too_short"]
    return f"{number} test samples have fewer frames than their transcript needs" if number else ""


def _decoding(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    points = {name: [one["wer"], *one["wer_95"]] for name, one in found["decoding"].items()}
    heads = [("decoding", "words")]
    for word in FIGURES.values():
        heads += [(word, "share"), ("95 %", "shares")]
    rows = [
        [name, *(one[key] for figure in FIGURES for key in (figure, f"{figure}_95"))]
        for name, one in found["decoding"].items()
    ]
    caption = "The same network, decoded in each way; the model answers in the last one."
    drawn = findings.chart("intervals", "WER of each way to decode", points=points, xlabel="WER on test")
    return [drawn, findings.table(caption, heads, rows)]


def _exhibits(rows: list[dict[str, Any]], share: list[float]) -> list[dict[str, Any]]:
    ranked = sorted(zip(rows, share, strict=True), key=lambda pair: (-pair[1], pair[0]["id"]))
    parts = []
    for title, some, good in (("Farthest off", ranked, False), ("Nearest", ranked[::-1], True)):
        items = [
            findings.exhibit(
                row["id"], row["prediction"] or "(nothing)", f"{error:.0%} of the characters", row["target"]
            )
            for row, error in some[: findings.MOST_EXHIBITS]
        ]
        parts.append({"title": title, "none": "There is no test sample.", "good": good, "items": items})
    return parts


def _answered(answers: NDArray[Any]) -> list[str]:
    """Without an answer, a model is taken to hear nothing."""
    return [answer or "" for answer in answers.tolist()]


def _of_errors(place: int) -> paired.Measure:
    return paired.Measure(
        lambda answers, target: columns(_answered(answers), target.tolist()),
        lambda sums: -figures(sums)[:, place],
    )


def _unanswered(one: Contender) -> int:
    return sum(answer is None for answer in one.answers.tolist())


def _notes(_test: HeldOut, one: Contender) -> list[str]:
    silent = _unanswered(one)
    words = f"{one.name} has no answer to {silent} test samples, of which it counts as hearing nothing."
    return [words] if silent else []


RULES = Rules(
    headline="wer",
    measures={"wer": _of_errors(0), "cer": _of_errors(1)},
    lower=frozenset({"wer", "cer"}),
    extra=lambda one, _test, _asked: {"unanswered": _unanswered(one)},
    notes=_notes,
)
"""For models that write down what is said: texts (N,), None = no answer, against texts."""
