"""Which fusions there are, by the names that `model.fusion` in params.yaml takes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mmpipe.model.fusions.attention import CrossModal
from mmpipe.model.fusions.base import Fusion
from mmpipe.model.fusions.feature import Concat, Gated, LowRank
from mmpipe.model.fusions.opinions import Average, Stacking, Weighted


class Sizes(NamedTuple):
    """`widths`: {modality: C of its encoder's sequence}. `dim`: D. `outputs`: K of the head."""

    widths: Mapping[str, int]
    dim: int
    outputs: int
    rank: int
    heads: int


FUSIONS: dict[str, Callable[[Sizes], Fusion]] = {
    "concat": lambda sizes: Concat(list(sizes.widths), sizes.dim),
    "gated": lambda sizes: Gated(list(sizes.widths), sizes.dim),
    "attention": lambda sizes: CrossModal(sizes.widths, sizes.dim, heads=sizes.heads),
    "lowrank": lambda sizes: LowRank(list(sizes.widths), sizes.dim, rank=sizes.rank),
    "average": lambda _: Average(),
    "weighted": lambda sizes: Weighted(list(sizes.widths)),
    "stacking": lambda sizes: Stacking(list(sizes.widths), sizes.outputs),
}
"""Name → what builds it. A new one: a class in `fusions`, a line here, its name in `params.Model.fusion`."""
