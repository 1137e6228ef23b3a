"""Encoders × fusion × head as one module, built from flat numbers and names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmpipe.batches import Batch, Dataset
from mmpipe.model.encoders import AudioCNN, Encoded, ImageCNN, Normalize, TextGRU
from mmpipe.model.fusion import FUSIONS
from mmpipe.tasks.classify import Classify, Output


class Network(nn.Module):
    """Keys are modalities, in sorted order. `dim`: width D of each pooled vector."""

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: Classify, *, dim: int
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: encoders[m] for m in sorted(encoders)})
        self.fusion = fusion
        self.head = head
        self.dim = dim

    @property
    def modalities(self) -> list[str]:
        """Those the network was built for."""
        return list(self.encoders)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return self.head.classes

    @property
    def drop_token(self) -> int:
        """The token id that stands for a dropped token; 0 without text."""
        return next((e.drop_token for e in self.encoders.values() if isinstance(e, TextGRU)), 0)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """{modality: pooled (B, D)}; zeros where absent. The costly part, once for any number of subsets."""
        return {m: self._encode(m, batch) for m in self.encoders}

    def decode(self, pooled: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Output:
        """What the modalities that `present` marks say together. `present`: {modality: bool (B,)}."""
        output: Output = self.head(self.fusion(pooled, present), pooled, present)
        return output

    def forward(self, batch: Batch, present: Mapping[str, Tensor] | None = None) -> Output:
        """`present` hides modalities that the batch has; None = all it has."""
        return self.decode(self.encode(batch), batch.present if present is None else present)

    def fit_moments(self, train: Dataset) -> None:
        """Normalise by the train split's moments."""
        for m, encoder in self.encoders.items():
            if isinstance(normalize := getattr(encoder, "normalize", None), Normalize):
                normalize.fit(*train.moments(m))

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
    encoded: Encoded = encoder(x, lengths)
    return encoded.pooled.float()


def build_model(
    *,
    modalities: Sequence[str],
    classes: int,
    dim: int,
    dropout: float,
    vocab_size: int = 0,
    n_mels: int = 0,
    fusion: str = "concat",
    image_flip: bool = True,
) -> Network:
    """An untrained network; the arguments are what the bundle records as `architecture`."""
    encoders: dict[str, nn.Module] = {}
    if "audio" in modalities:
        encoders["audio"] = AudioCNN(dim, n_mels=n_mels, dropout=dropout)
    if "image" in modalities:
        encoders["image"] = ImageCNN(dim, dropout=dropout, flip=image_flip)
    if "text" in modalities:
        encoders["text"] = TextGRU(dim, vocab_size=vocab_size, dropout=dropout)
    joined = FUSIONS[fusion](sorted(encoders), dim)
    head = Classify(sorted(encoders), dim, fused_dim=joined.out_dim, classes=classes, dropout=dropout)
    return Network(encoders, joined, head, dim=dim)
