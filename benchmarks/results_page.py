"""docs/results.md: rows of finished trainings as tables, and what of the figures to beat is beaten."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmpipe import init, sense, trees

Row = dict[str, Any]
HEAD = """# Results

Every recipe with every fusion that makes sense for it. One command trains and another writes this page, from
[results.jsonl](results.jsonl), a row a training; both go on where they were stopped:

    python benchmarks/results.py --into DIR
    python benchmarks/results.py --into DIR --write

- Figures of the test split, mean ± sd over seeds. Seed s draws the first weights and everything random, and
  tests on fold s of five; where the data have a split of their own, only the first.
- *Against `concat`*: the difference on the same seeds and folds, so that the folds' own differences do not
  count.
- *Alone* is a model that was trained on this modality only; *the same model on …* is the fused model where a
  sample has nothing else.
- `objective` is `concat` with each modality's own loss (0.5; a decoder of words has none), contrastive
  alignment (0.1), and all weights learned.
- `whole` is `concat` without modality dropout ([what that costs where modalities are missing](missing.md)).
- Figures to beat of `stamps`, `stamps-pretrained` and `emoji` are means over five folds of the same kind.
  Three seeds here are three of the folds.
- All parameters but the fusion are the recipe's, chosen for its own: no other was tuned. CPU, one thread a
  training, several at once on a busy machine, hence CPU seconds.
"""
MODALITIES = ("audio", "image", "text")
PARTS = {"directions": "query to answer", "decoding": "decoding"}
"""What a row may have besides its figures → the head of its table."""
ENOUGH = 3
"""Seeds, for a spread."""
WORDS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "wer": "WER",
    "cer": "CER",
    "mean_recall": "mean recall",
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "median_rank": "median rank",
}


class Beat(NamedTuple):
    """A figure to beat: its place in a row, its value, whose it is."""

    place: str
    value: float
    whose: str


RIDGE = "frozen EfficientNet-Lite0 to MiniLM by ridge regression, image to text"
TO_BEAT = {
    "answer": [Beat("figures.exact_match", 0.876, "a published CNN and LSTM that chooses among the answers")],
    "dialogue": [Beat("figures.accuracy", 0.876, "a published CNN and LSTM side by side")],
    "emoji": [Beat("figures.accuracy", 0.771, "classical models of picture and name")],
    "retrieval": [
        Beat(f"directions.image to text.recall_at_{k}", value, RIDGE)
        for k, value in ((1, 0.185), (5, 0.435), (10, 0.524))
    ],
    "stamps": [Beat("figures.accuracy", 0.608, "classical models fused")],
    "stamps-pretrained": [
        Beat(
            "figures.accuracy",
            0.857,
            "logistic regression on both frozen vectors, fitted on val, too",
        )
    ],
}


def render(rows: list[Row], wanted: Mapping[str, Sequence[str]]) -> str:
    """The page; recipes and variants in a fixed order, so that the same rows give the same page.

    `wanted`: {recipe: variants that make sense}. Those without a row are named, of recipes that have a row or
    a figure to beat.
    """
    dates = sorted({row["date"] for row in rows})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    parts = [HEAD, f"{len(rows)} trainings, {when}.\n"]
    for recipe in sorted(wanted.keys() & (TO_BEAT.keys() | {row["recipe"] for row in rows})):
        parts.append(section(recipe, [row for row in rows if row["recipe"] == recipe], wanted[recipe]))
    return "\n".join(parts)


def section(recipe: str, rows: list[Row], wanted: Sequence[str]) -> str:
    """One recipe: its variants, what is beaten, what is not trained, and its own page."""
    says = init.template(f"recipes/{recipe}.yaml").splitlines()[0].removeprefix("# ")
    lines = [f"## {recipe}", "", f"{says.split('. ')[0]}. [More](../recipes/{recipe}/RESULTS.md).", ""]
    lines += table(rows) if rows else []
    for part, head in PARTS.items():
        for variant, mine in variants([row for row in rows if part in row]).items():
            lines += ["", *parted(mine, part, f"{head}, `{variant}`")]
    fused = [row for row in rows if not row["variant"].endswith("alone")]
    lines += [""] if rows else []
    lines += [verdict(beat, fused) for beat in TO_BEAT.get(recipe, []) if fused]
    lines += pending(rows, wanted)
    return "\n".join(lines).rstrip() + "\n"


def table(rows: list[Row]) -> list[str]:
    """A row a variant, single modalities first."""
    names = [name for name in sense.METRICS[rows[0]["task"]] if name in WORDS][:2]
    single = [m for m in MODALITIES if any(m in row.get("subsets", {}) for row in rows)]
    single = [] if "decoding" in rows[0] else single  # its table says the same
    base = by_seed([row for row in rows if row["variant"] == "concat"], f"figures.{names[0]}")
    heads = ["", *(WORDS[name] for name in names), *(["against `concat`"] if base else [])]
    heads += [f"the same model on {' / '.join(single)}"] if single else []
    heads += ["parameters", "training, CPU s", "seeds"]
    cells = []
    for variant, mine in variants(rows).items():
        now = by_seed(mine, f"figures.{names[0]}")
        gains = [now[seed] - base[seed] for seed in sorted(now) if seed in base]
        cell = [variant if variant.endswith("alone") else f"`{variant}`"]
        cell += [spread([of(row, f"figures.{name}") for row in mine]) for name in names]
        if base:
            cell += [spread(gains, sign=True) if gains and variant != "concat" else ""]
        cell += [" / ".join(alone(mine, m, names[0]) for m in single)] if single else []
        costs = [row["train_cpu_s"] for row in mine if row["train_cpu_s"] is not None]
        cell += [f"{mine[0]['parameters']:,}", f"{statistics.mean(costs):.0f}" if costs else "not known"]
        cells.append([*cell, str(len(mine))])
    return grid(heads, cells)


def parted(rows: list[Row], part: str, head: str) -> list[str]:
    """A variant's figures by direction of `retrieve`, or by what helps to decode."""
    names = [name for name in WORDS if name in next(iter(rows[0][part].values()))]
    heads = [head, *(WORDS[name] for name in names), "test samples"]
    cells = [
        [
            way,
            *(
                spread([row[part][way][name] for row in rows], digits=1 if "rank" in name else 3)
                for name in names
            ),
            " / ".join(sorted({str(row[part][way]["samples"]) for row in rows})),
        ]
        for way in rows[0][part]
    ]
    return grid(heads, cells)


def pending(rows: list[Row], wanted: Sequence[str]) -> list[str]:
    """What of the table is to be trained yet."""
    counts = Counter(row["variant"] for row in rows)
    none = [name for name in wanted if not counts[name]]
    few = [f"{name} ({counts[name]} of {ENOUGH} seeds)" for name in wanted if 0 < counts[name] < ENOUGH]
    return [f"- Not trained yet: {', '.join([*none, *few])}."] if none or few else []


def verdict(beat: Beat, rows: list[Row]) -> str:
    """Whose mean is above the figure to beat, and whose is not."""
    means = {
        variant: statistics.mean(of(row, beat.place) for row in mine)
        for variant, mine in variants(rows).items()
    }
    above = [f"`{name}` ({mean:.3f})" for name, mean in means.items() if mean > beat.value]
    below = [f"`{name}` ({mean:.3f})" for name, mean in means.items() if mean <= beat.value]
    what = WORDS[beat.place.rsplit(".", 1)[1]]
    told = [f"beaten on the mean by {', '.join(above)}"] if above else []
    told += [f"{'not by' if above else '**not beaten**:'} {', '.join(below)}"] if below else []
    return f"- To beat: {what} {beat.value:.3f} ({beat.whose}); {'; '.join(told)}."


def variants(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by variant, single modalities and units first, then in the order of `results.VARIANTS`."""
    order = ("concat", "gated", "attention", "lowrank", "weighted", "stacking", "objective", "whole")
    names = {row["variant"] for row in rows}
    single = sorted(name for name in names if name not in order)
    return {
        name: sorted((row for row in rows if row["variant"] == name), key=lambda row: row["seed"])
        for name in [*single, *(name for name in order if name in names)]
    }


def by_seed(rows: list[Row], place: str) -> dict[int, float]:
    return {row["seed"]: of(row, place) for row in rows}


def of(row: Row, place: str) -> float:
    return float(trees.flat(row)[place])


def alone(rows: list[Row], modality: str, name: str) -> str:
    """The mean of a fused model on one modality; nothing where that is all it has."""
    found = [row["subsets"][modality][name] for row in rows if modality in row["subsets"]]
    return f"{statistics.mean(found):.3f}" if found and len(rows[0]["subsets"]) > 1 else "–"


def spread(values: list[float], *, sign: bool = False, digits: int = 3) -> str:
    """Mean ± sd; of a single value no sd."""
    mean = f"{statistics.mean(values):{'+' if sign else ''}.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def grid(heads: list[str], cells: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]
