"""What a model of `stamps` is worth where samples lack modalities, trained with modality dropout and without.

    python benchmarks/results.py --into DIR --recipes stamps --variants concat whole     # the trainings
    python benchmarks/results.py --into DIR --write
    python benchmarks/missing.py                                   # docs/missing.md and docs/missing.svg

No draw is made: a row has the accuracy of each subset of modalities, over all test samples, so the accuracy
where a modality is missing from a share of the samples is the mean over all ways of dropping it.
"""

import io
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from results import REPOSITORY, read
from results_page import grid, spread

from mmpipe import files

MODALITIES = ("audio", "image", "text")
TOGETHER = "each of them"
SHARES = (0.0, 0.3, 0.6, 0.9)
TRAINED = {"concat": "with", "whole": "without"}
HEAD = """# Missing modalities

Accuracy on the test split of `stamps` where a share of its samples lacks a modality: the recipe's model,
which is trained with modalities hidden at random (`train.modality_dropout: 0.3`), and the same without. Mean
± sd over {seeds} seeds, each on its own fold ([results.md](results.md) has the two models whole).

    python benchmarks/results.py --into DIR --recipes stamps --variants concat whole
    python benchmarks/results.py --into DIR --write
    python benchmarks/missing.py

*{together}*: audio, image and text are dropped independently of one another, and where all three go, one of
them stays, each as likely. The figures are exact means over all ways of dropping, from the accuracy of each
subset.

![Accuracy by the share of samples that lack a modality](missing.svg)

"""


def accuracy(subsets: dict[str, Any], dropped: str, share: float) -> float:
    """Of one model, where `dropped` (a modality, or all of them independently) misses with that chance.

    `subsets`: {"audio+image": {"accuracy": …}, …}, all over the same samples, which have everything.
    """
    everything = "+".join(MODALITIES)
    if dropped != TOGETHER:
        rest = "+".join(m for m in MODALITIES if m != dropped)
        parts = {everything: 1 - share, rest: share}
    else:
        parts = {"+".join(some): chance(len(some), share) for some in _subsets()}
    return sum(weight * float(subsets[name]["accuracy"]) for name, weight in parts.items())


def chance(size: int, share: float) -> float:
    """That just these `size` of three modalities stay; the chance that none does is dealt to single ones."""
    count = len(MODALITIES)
    left = share**count / count if size == 1 else 0.0
    return float((1 - share) ** size * share ** (count - size) + left)


def _subsets() -> list[tuple[str, ...]]:
    return [some for size in range(1, len(MODALITIES) + 1) for some in combinations(MODALITIES, size)]


def curves(rows: Sequence[dict[str, Any]], variant: str, dropped: str) -> list[list[float]]:
    """For each share, the accuracy of each seed's model."""
    chosen = [row for row in rows if (row["recipe"], row["variant"]) == ("stamps", variant)]
    mine = {row["seed"]: row["subsets"] for row in chosen}
    return [[accuracy(mine[seed], dropped, share) for seed in sorted(mine)] for share in SHARES]


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The page: a table of what is dropped × how it was trained."""
    heads = ["dropped", "modality dropout", *(f"{share:.0%} of the samples" for share in SHARES)]
    cells = []
    for dropped in (*MODALITIES, TOGETHER):
        found = {told: curves(rows, variant, dropped) for variant, told in TRAINED.items()}
        cells += [[dropped, told, *map(spread, values)] for told, values in found.items()]
        pairs = [zip(*both, strict=True) for both in zip(*found.values(), strict=True)]
        gains = [spread([one - other for one, other in pair], sign=True) for pair in pairs]
        cells.append([dropped, "difference, seed by seed", *gains])
    seeds = len(curves(rows, "whole", TOGETHER)[0])
    head = HEAD.format(seeds=seeds, together=TOGETHER)
    return head + "\n".join(grid(heads, cells)) + "\n"


def draw(rows: Sequence[dict[str, Any]]) -> bytes:
    """A panel for each that is dropped; bands are the sd over seeds. Same rows, same bytes."""
    style = {"svg.hashsalt": "missing", "svg.fonttype": "none", "font.size": 9.0, "axes.spines.top": False}
    with mpl.rc_context(style | {"axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 2.9), layout="constrained", facecolor="white")
        panels = figure.subplots(1, 4, sharey=True)
        for axes, dropped in zip(panels, (*MODALITIES, TOGETHER), strict=True):
            for (variant, told), colour in zip(TRAINED.items(), ("#0b6e99", "#c4582b"), strict=True):
                found = curves(rows, variant, dropped)
                middle = [statistics.mean(values) for values in found]
                sd = [statistics.stdev(values) for values in found]
                low, high = ([m + sign * s for m, s in zip(middle, sd, strict=True)] for sign in (-1, 1))
                axes.plot(SHARES, middle, marker="o", markersize=3, color=colour, label=told)
                axes.fill_between(SHARES, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(dropped, fontsize=9)
            axes.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
            axes.grid(axis="y", linewidth=0.5, color="#dddddd")
        panels[0].set_ylabel("accuracy on test")
        panels[0].set_ylim(bottom=0)
        figure.supxlabel("samples that lack it", fontsize=9)
        panels[-1].legend(frameon=False, fontsize=8, loc="lower left", title="modality dropout")
        drawn = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
    return drawn.getvalue()


def main() -> None:
    """Page and picture, from the rows beside docs/results.md."""
    rows = read(REPOSITORY / "docs/results.jsonl")
    files.write_bytes(REPOSITORY / "docs/missing.md", render(rows).encode())
    files.write_bytes(REPOSITORY / "docs/missing.svg", draw(rows))


if __name__ == "__main__":
    main()
