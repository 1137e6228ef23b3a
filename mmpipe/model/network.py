"""Encoders × fusion × head as one module, built from flat numbers and names."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmpipe.batches import Batch, Dataset
from mmpipe.model.encoders import ENCODERS, Encoded
from mmpipe.model.fusion import FUSIONS, Sizes
from mmpipe.model.fusions.base import Fusion
from mmpipe.tasks.task import Output, Task, load


class Network(nn.Module):
    """Keys are modalities, in sorted order. `dim`: width D of each pooled vector.

    `trust`: a number a modality, fitted on held-out samples after training: how much its contribution counts
    beside others.
    """

    trust: Tensor

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: Fusion, head: nn.Module, *, dim: int, task: Task
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: encoders[m] for m in sorted(encoders)})
        self.fusion = fusion
        self.head = head
        self.dim = dim
        self.task = task
        self.register_buffer("trust", torch.ones(len(encoders)))

    @property
    def modalities(self) -> list[str]:
        """Those the network was built for."""
        return list(self.encoders)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def outputs(self) -> int:
        """K, the width of an output: the number of labels, where there are such."""
        width: int = self.head.outputs  # type: ignore[assignment]  # of every task's head
        return width

    def encode(self, batch: Batch) -> dict[str, Encoded]:
        """{modality: zeros where absent}. The costly part, once for any number of subsets.

        Sequences have no step unless the fusion or the task's head reads them.
        """
        return {m: self._encode(m, batch) for m in self.encoders}

    def decode(
        self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor], target: Tensor | None = None
    ) -> Output:
        """What the modalities that `present` marks say together. `present`: {modality: bool (B,)}.

        `target`: what a head that writes is to write; its output is then of each unit, given those before.
        """
        weight = self._weights(present)
        if self.task.writes:
            written: Output = self.head(self.fusion(encoded, weight), encoded, weight, target)
            return written
        if self.task.sequences:
            read: Output = self.head(encoded, weight)
            return read
        pooled = {m: one.pooled for m, one in encoded.items()}
        if self.fusion.level == "model":
            opinions: dict[str, Tensor] = self.head.opinions(pooled)  # type: ignore[operator]  # of heads that fuse
            return Output(self.fusion(opinions, weight), opinions)
        output: Output = self.head(self.fusion(encoded, weight), pooled, weight)
        return output

    def memory(self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What a head that writes looks at: (B, S, D), and bool (B, S), the steps that count."""
        weight = self._weights(present)
        found: tuple[Tensor, Tensor] = self.head.memory(self.fusion(encoded, weight), encoded, weight)  # type: ignore[operator]
        return found

    def forward(self, batch: Batch, present: Mapping[str, Tensor] | None = None) -> Output:
        """`present` hides modalities that the batch has; None = all it has."""
        return self.decode(self.encode(batch), batch.present if present is None else present)

    def fit_statistics(self, train: Dataset) -> None:
        """What each encoder knows of the train split: moments of its input, document frequencies."""
        for m, encoder in self.encoders.items():
            encoder.fit_statistics(train, m)  # type: ignore[operator]

    def _weights(self, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{modality: (B,)}: 0 where absent, 1 where nothing else is present, else the modality's trust."""
        marks = torch.stack([present[m] for m in self.encoders], 1)
        alone = marks.sum(1, keepdim=True) < 2
        weights = marks * torch.where(alone, 1.0, self.trust)
        return dict(zip(self.encoders, weights.unbind(1), strict=True))

    def _encode(self, modality: str, batch: Batch) -> Encoded:
        """Only the rows that have the modality are computed."""
        encoder, x = self.encoders[modality], batch.inputs.get(modality)
        rows = batch.present[modality].nonzero()[:, 0] if modality in batch.partial else None
        if x is None or (rows is not None and len(rows) == 0):
            size, zeros = len(batch.index), self.trust.new_zeros
            return Encoded(zeros(size, 1, _width(encoder)), zeros(size, self.dim), zeros(size, 1))
        lengths = batch.lengths[modality]
        if rows is None:
            return self._kept(_encoded(encoder, x, lengths))
        some = self._kept(_encoded(encoder, x.index_select(0, rows), lengths.index_select(0, rows)))
        return Encoded(*(part.new_zeros(len(x), *part.shape[1:]).index_copy(0, rows, part) for part in some))

    def _kept(self, encoded: Encoded) -> Encoded:
        """Without the sequence where nobody reads it."""
        if self.fusion.sequences or self.task.sequences:
            return encoded
        return encoded._replace(sequence=encoded.sequence[:, :0], mask=encoded.mask[:, :0])


def _encoded(encoder: nn.Module, x: Tensor, lengths: Tensor) -> Encoded:
    """In float32. Batch norm cannot train on one row alone, so a single one counts twice."""
    if encoder.training and len(x) == 1:
        twice = _encoded(encoder, torch.cat([x, x]), torch.cat([lengths, lengths]))
        return Encoded(*(part[:1] for part in twice))
    return Encoded(*(part.float() for part in encoder(x, lengths)))


def _width(encoder: nn.Module) -> int:
    """C of its sequence."""
    width: int = encoder.sequence_dim  # type: ignore[assignment]
    return width


def build_model(  # noqa: PLR0913 (the keys of a bundle's architecture)
    *,
    modalities: Sequence[str],
    classes: int,
    dim: int,
    dropout: float,
    vocab_size: int = 0,
    n_mels: int = 0,
    fusion: str = "concat",
    image_flip: bool = True,
    image: str = "cnn",
    text: str = "gru",
    audio: str = "cnn",
    task: str = "classify",
    backbones: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    rank: int = 4,
    heads: int = 4,
    writer: Mapping[str, Any] | None = None,
) -> Network:
    """An untrained network; the arguments are what the bundle records as `architecture`.

    `classes`: the width of an output, which the task says: of one or several labels their number. `image`,
    `text`, `audio`: names of encoders. `n_mels`: values a frame of audio features. `backbones`: {modality:
    blueprint} of the encoders `vector`, which get what a frozen backbone made, and `pretrained`. `writer`:
    of a task that writes its `writer.Design`.
    """
    names = {"audio": audio, "image": image, "text": text}
    sizes: dict[str, dict[str, Any]] = {
        "audio": {"n_mels": n_mels},
        "image": {"flip": image_flip},
        "text": {"vocab_size": vocab_size},
    }
    for m, blueprint in backbones.items():
        sizes[m] = {"width": blueprint["width"]} if names[m] == "vector" else {"blueprint": blueprint}
    encoders = {m: ENCODERS[m][names[m]](dim, dropout=dropout, **sizes[m]) for m in sorted(modalities)}
    widths = {m: _width(encoder) for m, encoder in encoders.items()}
    joined = FUSIONS[fusion](Sizes(widths, dim, classes, rank, heads))
    learns = load(task)
    own = {} if writer is None else {"design": writer}
    head = learns.head(widths, dim, fused_dim=joined.out_dim, outputs=classes, dropout=dropout, **own)
    return Network(encoders, joined, head, dim=dim, task=learns)
