"""A head that writes its answer unit by unit: a decoder over what was fused and what was encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model import generation
from mmpipe.model.decoder import END, Decoder
from mmpipe.model.encoders import Encoded
from mmpipe.model.fusions.attention import positions
from mmpipe.model.generation import Answer

FIRST = 2
"""Token id of the first unit: `END` and `START` come before it."""
NONE = -1e9
"""Log p of an answer that there is not, as fewer were found than are told."""


@dataclass(frozen=True)
class Design:
    """What the head is built by. `tokens`: the longest answer. `search`: greedy, beam or closed.

    `width`: so many unfinished answers are followed by a beam, and so many answers are told of a beam or of a
    closed set. `closed`: units of each answer of that set.
    """

    tokens: int
    layers: int = 2
    heads: int = 4
    search: str = "greedy"
    width: int = 4
    closed: Sequence[Sequence[int]] = ()

    @property
    def told(self) -> int:
        """How many answers are told of a sample."""
        if self.search == "greedy":
            return 1
        return self.width if self.search == "beam" else min(self.width, len(self.closed))

    def contradiction(self, dim: int, units: int) -> str:
        """What in it does not go together with the width of a step and the number of units, or nothing."""
        if dim % self.heads:
            return f"{self.heads} attention heads for {dim} dimensions"
        if self.search == "closed" and not self.closed:
            return "a closed set without an answer"
        known = all(0 < unit < units for answer in self.closed for unit in answer)
        return "" if known and all(self.closed) else "a closed set of other units"


class Writer(nn.Module):
    """The decoder's memory: the fused vector, then the steps of each modality, all of one width.

    Steps of a modality that is absent or hidden are masked; the fused vector never is, as a fusion knows of
    absence itself.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        dim: int,
        *,
        fused_dim: int,
        units: int,
        design: Design,
        dropout: float,
    ) -> None:
        """`widths`: {modality: C of its sequence}. `units`: number of ids of a target, 0 among them."""
        super().__init__()
        names = sorted(widths)
        self.design = design
        self.joint = nn.Linear(fused_dim, dim)
        self.project = nn.ModuleDict({m: nn.Linear(widths[m], dim) for m in names})
        self.kind = nn.ParameterDict({m: nn.Parameter(torch.empty(dim).normal_(std=0.02)) for m in names})
        self.decoder = Decoder(
            units - 1 + FIRST,
            dim,
            memory_dim=dim,
            max_tokens=design.tokens,
            layers=design.layers,
            heads=design.heads,
            dropout=dropout,
        )
        self.dropout = nn.Dropout(dropout)

    @property
    def outputs(self) -> int:
        """Numbers that tell one answer: see `write`."""
        return 1 + self.design.tokens

    def memory(
        self, fused: Tensor, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(B, 1 + S, D) and bool (B, 1 + S): the steps that count."""
        steps = [self.joint(self.dropout(fused))[:, None].float()]
        masks = [torch.ones_like(fused[:, :1], dtype=torch.bool)]
        for m, project in self.project.items():
            x = project(self.dropout(encoded[m].sequence)).float() + self.kind[m]
            steps.append(x + positions(x.shape[1], x.shape[2], x.device))
            masks.append((encoded[m].mask > 0) & (weight[m] > 0)[:, None])
        mask = torch.cat(masks, 1)
        return torch.cat(steps, 1).masked_fill(~mask[:, :, None], 0), mask

    def follow(self, memory: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: logits (B, T, V) of each token of `tokens(target)`."""
        logits: Tensor = self.decoder(memory, mask, tokens(target, self.design.tokens)[0])
        return logits

    @torch.no_grad()
    def write(self, memory: Tensor, mask: Tensor) -> Tensor:
        """float32 (B, answers, 1 + longest): of each, best first, log p and its units, 0 after them.

        Of a closed set the log p are those of one of them being the answer: they sum to 1 over the set.
        """
        design, ask = self.design, generation.steps(self.decoder, memory, mask)
        if design.search == "greedy":
            told = [[one] for one in generation.greedy(ask, len(memory), limit=design.tokens)]
        elif design.search == "beam":
            told = generation.beam(ask, len(memory), limit=design.tokens, width=design.width)
        else:
            told = self._ranked(memory, mask)
        rows = [[_row(one, design.tokens) for one in self._filled(some)] for some in told]
        shape = (len(memory), design.told, self.outputs)
        return torch.tensor(rows, dtype=torch.float32, device=memory.device).view(shape)

    def _ranked(self, memory: Tensor, mask: Tensor) -> list[list[Answer]]:
        """The likeliest of the closed set."""
        candidates = [[unit - 1 + FIRST for unit in answer] for answer in self.design.closed]
        chances = generation.rank(self.decoder, memory, mask, candidates).double().log_softmax(1)
        best = chances.topk(self.design.told, dim=1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [[Answer(candidates[n], chance) for n, chance in zip(*row, strict=True)] for row in rows]

    def _filled(self, answers: Sequence[Answer]) -> list[Answer]:
        return [*answers, *[Answer([], NONE)] * (self.design.told - len(answers))]


def tokens(target: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Units int64 (B, L), -1 past an answer's end → its tokens (B, T), each followed by `END`, and how many.

    Of a longer answer the first `longest` + 1 tokens are taken, without an end.
    """
    count = (target >= 0).sum(1)
    shifted = functional.pad(torch.where(target >= 0, target - 1 + FIRST, END), (0, 1), value=END)
    kept = shifted[:, : longest + 1]
    return kept, (count + 1).clamp(max=kept.shape[1])


def answers(told: Sequence[Sequence[float]]) -> list[tuple[list[int], float]]:
    """What `Writer.write` told of a sample: (units, log p) of each answer, best first."""
    return [(_units(row[1:]), float(row[0])) for row in told if row[0] > NONE]


def _row(answer: Answer, longest: int) -> list[float]:
    units = [float(token - FIRST + 1) for token in answer.tokens]
    return [answer.log_prob, *units, *[0.0] * (longest - len(units))]


def _units(numbers: Sequence[float]) -> list[int]:
    return [int(number) for number in numbers if number > 0]
