"""Answers in words to held-out samples → how good they are, how surely, and what each modality adds."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmpipe import findings, label_findings, metrics, paired, scorecard
from mmpipe.answers import measures
from mmpipe.metrics import Estimate, Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.verdict import Contender, HeldOut, Rules

FIGURES = ("exact_match", "token_f1", "bleu")
NAMES = {"exact_match": "exact match", "token_f1": "token F1", "bleu": "BLEU"}
MOST_ANSWERS = 20
"""Of the table of answers: those that most samples have."""


def columns(given: Sequence[str], wanted: Sequence[str]) -> Floats:
    """What to sum for all figures: (N, 13). `given`: answers; `wanted`: their references."""
    exact, f1 = measures.exact_match(wanted, given), measures.token_f1(wanted, given)
    counts = measures.bleu_counts(wanted, given)
    return np.concatenate([exact[:, None], f1[:, None], np.ones((len(exact), 1)), counts], axis=1)


def figures(sums: Floats) -> Floats:
    """(n, 13) sums → (n, 3): exact match, token F1, BLEU."""
    return np.stack([sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2], measures.bleu_of(sums[:, 3:])], axis=1)


def measure(
    scores: Scores, said: Mapping[str, Sequence[str]], wanted: Sequence[str], *, resamples: int
) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    `said`: {subset: (N,) answers}; `wanted`: (N,) references, both in the form in which answers are learnt.
    """
    inside = scorecard.scorable(scores)
    given, right = _some(said[scores.full], inside), _some(wanted, inside)
    found = _estimates(given, right, scores.group[inside], resamples)
    subsets = {name: _of_subset(scores, name, of, wanted, resamples) for name, of in said.items()}
    exact = {name: measures.exact_match(wanted, of) for name, of in said.items()}
    result: Numbers = {
        **{key: value for name, one in found.items() for key, value in one.flat(name).items()},
        **scorecard.accounts(scores),
        "per_answer": _per_answer(exact[scores.full][inside], right),
        "subsets": subsets,
    }
    if rival := scorecard.best_subset(subsets, "exact_match"):
        shared = scores.scored(rival)
        more = exact[scores.full][shared] - exact[rival][shared]
        gain, p = metrics.gain(more, scores.group[shared], resamples=resamples)
        figure = gain.flat("exact_match")
        result["fusion_gain"] = {"over": rival, **figure, "p": p, "samples": int(shared.sum())}
    rounded: Numbers = metrics.rounded(result)
    return rounded


def told(found: Mapping[str, Any], predictions: pa.Table) -> dict[str, Any]:
    """For people, as `findings` has it. `predictions`: of val and test."""
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    right = measures.exact_match([row["target"] for row in rows], [row["prediction"] for row in rows]) > 0
    shares = label_findings.subsets(found, {name: NAMES[name] for name in FIGURES[:2]}, "share")
    return {
        "task": "answer",
        "kind": "text",
        "learns": "Answers in words",
        "says": "An answer in words",
        "index": [{"type": name, "name": NAMES[name], "value": found[name]} for name in FIGURES],
        "headline": [
            findings.tile(_upper(NAMES[name]), found[name], "share", **findings.interval(found, name))
            for name in FIGURES
        ],
        "verdict": _upper(scorecard.verdict(dict(found), "exact_match")),
        "sections": [
            findings.section("modalities", "What each modality adds", "", shares),
            findings.section("classes", "Answers", "", [_table(found["per_answer"])]),
        ],
        "exhibits": label_findings.exhibits(rows, right.tolist()),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> findings.Block:
    names = [("answer", "words"), ("exact match", "share"), ("samples", "count")]
    caption = f"On the test split, the {MOST_ANSWERS} answers at most that are asked for most often."
    cells = [[row["answer"], row["exact_match"], row["samples"]] for row in rows]
    return findings.table(caption, names, cells)


def _per_answer(exact: Floats, wanted: Sequence[str]) -> list[Numbers]:
    """How often each of the commonest answers is given where it is the right one."""
    counts = sorted(Counter(wanted).items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_ANSWERS]
    names = np.array(wanted, dtype=object)
    return [
        {"answer": name, "exact_match": float(exact[names == name].mean()), "samples": count}
        for name, count in counts
    ]


def _estimates(
    given: Sequence[str], wanted: Sequence[str], group: NDArray[np.str_], resamples: int
) -> dict[str, Estimate]:
    found = metrics.estimates(columns(given, wanted), group, figures, resamples=resamples)
    return dict(zip(FIGURES, found, strict=True))


def _of_subset(
    scores: Scores, name: str, given: Sequence[str], wanted: Sequence[str], resamples: int
) -> Numbers:
    inside = scores.scored(name)
    if not inside.any():
        return {"samples": 0}
    found = _estimates(_some(given, inside), _some(wanted, inside), scores.group[inside], resamples)
    flat = {key: value for figure, one in found.items() for key, value in one.paired(figure).items()}
    return {**flat, "samples": int(inside.sum())}


def _some(texts: Sequence[str], inside: NDArray[np.bool_]) -> list[str]:
    return [text for text, one in zip(texts, inside.tolist(), strict=True) if one]


def _upper(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _mean_of(each: Callable[[Sequence[str], Sequence[str]], Floats]) -> paired.Measure:
    return paired.Measure(
        lambda answers, target: paired.mean_columns(each(target.tolist(), answers.tolist())), paired.mean
    )


_BLEU = paired.Measure(
    lambda answers, target: measures.bleu_counts(target.tolist(), answers.tolist()), measures.bleu_of
)


def _unanswered(one: Contender) -> int:
    return int((one.answers == "").sum())


def _notes(_test: HeldOut, one: Contender) -> list[str]:
    silent = _unanswered(one)
    words = f"{one.name} has no answer to {silent} test samples, which count as wrong for it."
    return [words] if silent else []


RULES = Rules(
    headline="exact_match",
    measures={
        "exact_match": _mean_of(measures.exact_match),
        "token_f1": _mean_of(measures.token_f1),
        "bleu": _BLEU,
    },
    extra=lambda one, _test, _asked: {"unanswered": _unanswered(one)},
    notes=_notes,
)
"""For models that answer in words: (N,) texts, "" = no answer."""
