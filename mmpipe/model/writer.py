"""A head that writes its answer unit by unit: a decoder over what was fused and what was encoded."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.errors import InvalidError
from mmpipe.model import generation
from mmpipe.model.decoder import END, Decoder, next_log_probs
from mmpipe.model.encoders import Encoded
from mmpipe.model.fusions.attention import positions
from mmpipe.model.generation import Answer, Next
from mmpipe.model.stepwise import Stepwise
from mmpipe.tasks.task import Output

FIRST = 2
"""Token id of the first unit: `END` and `START` come before it."""
NONE = -1e9
"""Log p of an answer that there is not, as fewer were found than are told."""


class Design(BaseModel):
    """What the head is built by, as a bundle has it. `tokens`: the longest answer.

    `width`: so many unfinished answers are followed by a beam, and so many answers are told of a beam or of a
    closed set. `closed`: units of each answer of that set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(ge=1)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    search: Literal["greedy", "beam", "closed"] = "greedy"
    width: int = Field(default=4, ge=1)
    closed: list[list[int]] = []

    @property
    def told(self) -> int:
        """How many answers are told of a sample."""
        if self.search == "greedy":
            return 1
        return self.width if self.search == "beam" else min(self.width, len(self.closed))


def design(tree: Mapping[str, Any], dim: int, *, units: int) -> Design:
    """As a bundle has it. `dim`: width of a step; `units`: number of ids of a target, 0 among them.

    Raises InvalidError `bundle-format` where it is none, or does not go together with these.
    """
    try:
        made = Design.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"has a writer that is not valid at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InvalidError("bundle-format", what) from None
    known = all(answer and all(0 < unit < units for unit in answer) for answer in made.closed)
    if dim % made.heads:
        what = f"has a writer of {made.heads} attention heads for {dim} dimensions"
        raise InvalidError("bundle-format", what)
    if not known or (made.search == "closed" and not made.closed):
        raise InvalidError("bundle-format", "has a writer whose closed set is none of its units")
    return made


class Writer(nn.Module):
    """The decoder's memory: the fused vector, then the steps of each modality, all of one width.

    Steps of a modality that is absent or hidden are masked; the fused vector never is, as a fusion knows of
    absence itself. `longest`: whether all answers are as long as they can be, to measure what that costs.
    `steps`: what makes of the decoder, a memory and its mask what a search asks.
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
        self.longest = False
        self.steps: Callable[[Decoder, Tensor, Tensor], Next] = Stepwise
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

    def forward(
        self,
        fused: Tensor,
        encoded: Mapping[str, Encoded],
        weight: Mapping[str, Tensor],
        target: Tensor | None = None,
    ) -> Output:
        """`fused`: (B, F); `weight`: {modality: (B,), 0 = absent}.

        With a `target`, units (B, L): logits (B, T, V) of each of its `tokens`, given those before (teacher
        forcing); in evaluation only what `judged` says of them. Else what it has to say: see `write`.
        """
        memory, mask = self.memory(fused, encoded, weight)
        if target is None:
            return Output(self.write(memory, mask), {})
        wanted = tokens(target, self.design.tokens)[0]
        logits = self.decoder(memory, mask, wanted)
        return Output(logits if self.training else judged(logits, wanted), {})

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

    @torch.no_grad()
    def write(self, memory: Tensor, mask: Tensor) -> Tensor:
        """float32 (B, answers, 1 + longest): of each, best first, log p and its units, 0 after them.

        Of a closed set the log p are those of one of them being the answer: they sum to 1 over the set.
        """
        design = self.design
        if not len(memory):
            return memory.new_zeros(0, design.told, self.outputs)
        ask = self.steps(self.decoder, memory, mask)
        ask = generation.endless(ask) if self.longest else ask
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


def judged(logits: Tensor, wanted: Tensor) -> Tensor:
    """Logits (B, T, V) of tokens (B, T) → (B, T, 2): log p of each, and 1 where none is likelier.

    A whole split of these can be held, which of logits of a large vocabulary cannot.
    """
    chances = next_log_probs(logits)
    own = chances.gather(2, wanted[:, :, None])[:, :, 0]
    return torch.stack([own, (chances.argmax(2) == wanted).float()], 2)


def answers(told: Sequence[Sequence[float]]) -> list[tuple[list[int], float]]:
    """What `Writer.write` told of a sample: (units, log p) of each answer, best first."""
    return [(_units(row[1:]), float(row[0])) for row in told if row[0] > NONE]


def _row(answer: Answer, longest: int) -> list[float]:
    units = [float(token - FIRST + 1) for token in answer.tokens]
    return [answer.log_prob, *units, *[0.0] * (longest - len(units))]


def _units(numbers: Sequence[float]) -> list[int]:
    return [int(number) for number in numbers if number > 0]
