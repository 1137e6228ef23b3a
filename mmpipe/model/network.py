"""Encoders × fusion × head as one module, built from flat numbers and names."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmpipe.batches import Batch, Dataset
from mmpipe.model.encoders import ENCODERS, Encoded
from mmpipe.model.fusion import FUSIONS
from mmpipe.tasks.task import Output, Task, load


class Network(nn.Module):
    """Keys are modalities, in sorted order. `dim`: width D of each pooled vector.

    `trust`: a number a modality, fitted on held-out samples after training: how much its contribution counts
    beside others.
    """

    trust: Tensor

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module, *, dim: int, task: Task
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

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """{modality: pooled (B, D)}; zeros where absent. The costly part, once for any number of subsets."""
        return {m: self._encode(m, batch) for m in self.encoders}

    def decode(self, pooled: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Output:
        """What the modalities that `present` marks say together. `present`: {modality: bool (B,)}."""
        weight = self._weights(present)
        output: Output = self.head(self.fusion(pooled, weight), pooled, weight)
        return output

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

    def _encode(self, modality: str, batch: Batch) -> Tensor:
        """Only the rows that have the modality are computed."""
        encoder, x = self.encoders[modality], batch.inputs.get(modality)
        size = len(batch.index)
        if x is None:
            return torch.zeros(size, self.dim, device=batch.index.device)
        lengths = batch.lengths[modality]
        if modality not in batch.partial:
            return _pooled(encoder, x, lengths)
        rows = batch.present[modality].nonzero()[:, 0]
        out = torch.zeros(size, self.dim, device=x.device)
        if len(rows) == 0:
            return out
        return out.index_copy(
            0, rows, _pooled(encoder, x.index_select(0, rows), lengths.index_select(0, rows))
        )


def _pooled(encoder: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """(B, D). Batch norm cannot train on one row alone, so a single one counts twice."""
    if encoder.training and len(x) == 1:
        return _pooled(encoder, torch.cat([x, x]), torch.cat([lengths, lengths]))[:1]
    encoded: Encoded = encoder(x, lengths)
    return encoded.pooled.float()


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
) -> Network:
    """An untrained network; the arguments are what the bundle records as `architecture`.

    `classes`: the width of an output, which the task says: of one or several labels their number. `image`,
    `text`, `audio`: names of encoders. `n_mels`: values a frame of audio features. `backbones`: {modality:
    blueprint} of the encoders `vector`, which get what a frozen backbone made, and `pretrained`.
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
    joined = FUSIONS[fusion](sorted(encoders), dim)
    learns = load(task)
    head = learns.head(sorted(encoders), dim, fused_dim=joined.out_dim, outputs=classes, dropout=dropout)
    return Network(encoders, joined, head, dim=dim, task=learns)
