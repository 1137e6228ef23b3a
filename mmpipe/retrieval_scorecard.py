"""Embeddings of held-out samples → how often a modality finds its own sample among all, in another one."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmpipe import findings, metrics, paired, schema
from mmpipe.errors import InvalidError
from mmpipe.metrics import Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.verdict import Contender, HeldOut, Rules

KS = (1, 5, 10)
FIGURES = ("mean_recall", *(f"recall_at_{k}" for k in KS))
BLOCK = 1024
"""Queries whose similarities to all candidates are held at once."""
DIRECTIONS = tuple(permutations(schema.MODALITIES, 2))
"""(of the query, of what is found): every ordered pair, in order."""


def name_of(direction: tuple[str, str]) -> str:
    """As people call it."""
    return f"{direction[0]} to {direction[1]}"


def ranks(queries: Floats, candidates: Floats) -> Floats:
    """(N,): the rank of candidate i for query i by cosine, 1 the best; both are (N, E).

    Of equally similar candidates the right one comes last: embeddings that are all the same find nothing.
    """
    one, other = (
        of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-12) for of in (queries, candidates)
    )
    found = np.zeros(len(one))
    for start in range(0, len(one), BLOCK):
        similar = one[start : start + BLOCK] @ other.T
        own = similar[np.arange(len(similar)), start + np.arange(len(similar))]
        found[start : start + BLOCK] = (similar >= own[:, None] - 1e-9).sum(axis=1)
    return found


def all_ranks(embeddings: Mapping[str, Floats], present: Mapping[str, NDArray[np.bool_]]) -> Floats:
    """(N, directions): ranks among the samples that have both modalities; NaN for the others."""
    count = len(next(iter(present.values())))
    found = np.full((count, len(DIRECTIONS)), np.nan)
    for place, (query, answer) in enumerate(DIRECTIONS):
        if query in embeddings and answer in embeddings:
            both = present[query] & present[answer]
            if both.any():
                found[both, place] = ranks(embeddings[query][both], embeddings[answer][both])
    return found


def columns(found: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """What to sum: hits at each k, then those that are `wanted` (N, D): (N, D × 4). NaN is a miss."""
    hits = [(found <= k) & wanted for k in KS]
    return np.concatenate([*hits, wanted], axis=1).astype(np.float64)


def figures(sums: Floats) -> Floats:
    """(n, D × 4) sums → (n, 4): mean recall, then recall at 1, 5, 10; each a mean over the directions."""
    *hits, wanted = np.split(sums, len(KS) + 1, axis=1)
    asked = np.maximum((wanted > 0).sum(axis=1), 1)
    recalls = [(of / np.maximum(wanted, 1)).sum(axis=1) / asked for of in hits]
    return np.stack([np.mean(recalls, axis=0), *recalls], axis=1)


def measure(scores: Scores, *, resamples: int) -> Numbers:
    """All metrics of a split, as `metrics/evaluate.json` has them; numbers rounded to 6 digits.

    The candidates of a query are all samples of the split that have both modalities; the bootstrap keeps the
    ranks. Raises InvalidError `split-too-few` where fewer than two samples have two modalities.
    """
    found = ranks_of(scores)
    wanted = np.isfinite(found)
    inside = wanted.any(axis=1)
    if inside.sum() < 2:
        what = f"{inside.sum()} {scores.split} samples have two modalities, of which one can find the other"
        raise InvalidError("split-too-few", what, fix=f"raise split.{scores.split}_fraction, or add samples")
    estimates = metrics.estimates(
        columns(found, wanted)[inside], scores.group[inside], figures, resamples=resamples
    )
    result: Numbers = {
        **{k: v for name, one in zip(FIGURES, estimates, strict=True) for k, v in one.flat(name).items()},
        "samples": int(inside.sum()),
        "samples_left_out": int((~inside).sum()),
        "samples_dropped": scores.dropped,
        "directions": {
            name_of(direction): _of_direction(found[:, place], scores.group, resamples)
            for place, direction in enumerate(DIRECTIONS)
            if wanted[:, place].any()
        },
    }
    rounded: Numbers = metrics.rounded(result)
    return rounded


def ranks_of(scores: Scores) -> Floats:
    """(N, directions) of a split; the subsets of one modality are its embeddings."""
    single = {m: scores.logits[m] for m in scores.present}
    return all_ranks(single, scores.present)


def predictions(all_scores: Sequence[Scores]) -> pa.Table:
    """A row a sample: its rank in each direction, null where it lacks a modality; sorted by id."""
    rows: list[dict[str, Any]] = []
    for scores in all_scores:
        found = ranks_of(scores)
        for row, name in enumerate(scores.ids):
            here = [m for m in sorted(scores.present) if scores.present[m][row]]
            own = {"id": name, "split": scores.split, "modalities": "+".join(here)}
            of = zip(DIRECTIONS, found[row].tolist(), strict=True)
            rows.append(own | {f"rank {name_of(d)}": int(r) for d, r in of if np.isfinite(r)})
    text = [pa.field(name, pa.string()) for name in ("id", "split", "modalities")]
    fields = [*text, *(pa.field(f"rank {name_of(d)}", pa.int32()) for d in DIRECTIONS)]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["id"])), schema=pa.schema(fields))


def told(found: Mapping[str, Any], table: pa.Table) -> dict[str, Any]:
    """For people, as `findings` has it. `table`: `predictions` of val and test."""
    words = {"mean_recall": "Mean recall", **{f"recall_at_{k}": f"Recall at {k}" for k in KS}}
    names = list(found["directions"])
    points = {name: [one["recall_at_5"], *one["recall_at_5_95"]] for name, one in found["directions"].items()}
    drawn = findings.chart(
        "intervals", "Recall at 5 of each direction", points=points, xlabel="recall at 5 on test"
    )
    columns_ = [("query to answer", "words")]
    for k in KS:
        columns_ += [(f"R@{k}", "share"), ("95 %", "shares")]
    columns_ += [("median rank", "number"), ("candidates", "count")]
    rows = [
        [name, *_shares(one), one["median_rank"], one["samples"]] for name, one in found["directions"].items()
    ]
    caption = "Each sample of the test split looks for itself in another modality, among all that have both."
    return {
        "task": "retrieve",
        "kind": "none",
        "learns": f"{len(names)} directions of search",
        "says": "An embedding a modality, in which samples find one another",
        "index": [{"type": name, "name": words[name].lower(), "value": found[name]} for name in FIGURES],
        "headline": [
            findings.tile(words[name], found[name], "share", **findings.interval(found, name))
            for name in FIGURES
        ],
        "verdict": "",
        "sections": [
            findings.section("directions", "Search", "", [drawn, findings.table(caption, columns_, rows)])
        ],
        "exhibits": _exhibits(
            [row for row in table.to_pylist() if row["split"] == "test"], found["directions"]
        ),
    }


def _of_direction(found: Floats, group: NDArray[np.str_], resamples: int) -> Numbers:
    inside = np.isfinite(found)
    one, names = found[inside], group[inside]
    hits = np.stack([*(one <= k for k in KS), np.ones(len(one))], axis=1)
    estimates = metrics.estimates(hits, names, lambda sums: sums[:, :-1] / sums[:, -1:], resamples=resamples)
    result: Numbers = {"median_rank": float(np.median(one)), "samples": len(one)}
    for k, estimate in zip(KS, estimates, strict=True):
        result |= estimate.paired(f"recall_at_{k}")
    return result


def _shares(one: Mapping[str, Any]) -> list[Any]:
    return [value for k in KS for value in (one[f"recall_at_{k}"], one[f"recall_at_{k}_95"])]


def _exhibits(rows: Sequence[Mapping[str, Any]], directions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples that are found last and first, by their worst and best direction."""
    parts = []
    for title, pick, good in (("Found last", max, False), ("Found first", min, True)):
        choose: Callable[..., Any] = pick
        picked = [
            (choose((row[f"rank {name}"], name) for name in directions if row[f"rank {name}"]), row["id"])
            for row in rows
            if any(row[f"rank {name}"] for name in directions)
        ]
        items = [
            findings.exhibit(name, f"rank {rank}", f"of {directions[way]['samples']}, {way}", None)
            for (rank, way), name in sorted(picked, reverse=not good)[: findings.MOST_EXHIBITS]
        ]
        parts.append({"title": title, "none": "No sample has two modalities.", "good": good, "items": items})
    return parts


def _measure(place: int) -> paired.Measure:
    return paired.Measure(columns, lambda sums: figures(sums)[:, place])


def _extra(one: Contender, test: HeldOut, _asked: Any) -> dict[str, Any]:
    missing = int((test.target & ~np.isfinite(one.answers)).any(axis=1).sum())
    some = one.answers[np.isfinite(one.answers)]
    return {"median_rank": float(np.median(some)) if len(some) else 0.0, "unanswered": missing}


def _notes(test: HeldOut, one: Contender) -> list[str]:
    missing = _extra(one, test, None)["unanswered"]
    words = f"{one.name} lacks a modality of {missing} test samples, whose searches there count as misses."
    return [words] if missing else []


RULES = Rules(
    headline="mean_recall",
    measures={name: _measure(place) for place, name in enumerate(FIGURES)},
    extra=_extra,
    notes=_notes,
)
"""For models that retrieve: (N, directions) ranks, NaN = no answer; targets mark the searches there are."""
