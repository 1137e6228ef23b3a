"""Encoders of token ids: a weighted bag of words beside a recurrent network or a transformer; or none."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.parts import Encoded, Project, Train, both_ways, length_mask, mean_over, most_over

GAIN = 3.0
"""Of token vectors, which start small, to about 1."""


class TextGRU(nn.Module):
    """A TF-IDF weighted bag of token vectors ‖ maximum and mean over time of a bidirectional GRU.

    A token that no train text has weighs nothing: its vector was never fitted. That holds for pieces of words
    where the vocabulary is large enough for whole ones, and for padding (id 0) and dropped tokens.
    """

    idf: Tensor

    def __init__(
        self, dim: int, *, vocab_size: int, dropout: float = 0.0, width: int = 96, hidden: int = 64
    ) -> None:
        super().__init__()
        self.register_buffer("idf", torch.ones(vocab_size))
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.ahead = nn.GRU(width, hidden, batch_first=True)
        self.back = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.project = Project(width + 4 * hidden, dim, dropout=dropout, norm=False)
        self.sequence_dim = 2 * hidden

    def fit(self, texts: int, containing: Tensor) -> None:
        """Inverse document frequencies. `containing`: (vocabulary,), how many train `texts` have a token."""
        self.idf.copy_(_idf(texts, containing))

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Inverse document frequencies of the train split."""
        self.fit(train.having(modality), train.containing(modality, len(self.idf)))

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: int (B, T) token ids."""
        x, mask = _ids(x, self), length_mask(lengths, x.shape[1])
        words, bag = _words(self.embed, self.idf, x, mask)
        hidden = both_ways(self.ahead, self.back, self.dropout(words), lengths)
        most = (hidden * mask[:, :, None] - 2 * (1 - mask[:, :, None])).amax(1)  # a GRU gives -1 … 1
        pooled = torch.cat([bag, most, mean_over(hidden, mask)], 1)
        return Encoded(hidden * mask[:, :, None], self.project(pooled), mask)


class TextTransformer(nn.Module):
    """A TF-IDF weighted bag of token vectors ‖ maximum and mean over a pre-norm transformer.

    (Vaswani et al. 2017, with the norm before each part as in Xiong et al. 2020.) Positions are sinusoids, so
    that a text may be longer than any of training. Tokens without weight, and padding, are attended by none.
    """

    idf: Tensor

    def __init__(
        self,
        dim: int,
        *,
        vocab_size: int,
        dropout: float = 0.0,
        width: int = 96,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.register_buffer("idf", torch.ones(vocab_size))
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(_Attend(width, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.project = Project(3 * width, dim, dropout=dropout, norm=False)
        self.sequence_dim = width

    def fit(self, texts: int, containing: Tensor) -> None:
        """Inverse document frequencies. `containing`: (vocabulary,), how many train `texts` have a token."""
        self.idf.copy_(_idf(texts, containing))

    def fit_statistics(self, train: Train, modality: str) -> None:
        """Inverse document frequencies of the train split."""
        self.fit(train.having(modality), train.containing(modality, len(self.idf)))

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: int (B, T) token ids."""
        x, mask = _ids(x, self), length_mask(lengths, x.shape[1])
        words, bag = _words(self.embed, self.idf, x, mask)
        mask = mask * (self.idf[x.long()] > 0)
        hidden = self.dropout(words + positions(x.shape[1], words.shape[2], x.device))
        for block in self.blocks:
            hidden = block(hidden, mask)
        hidden = self.norm(hidden).float()
        pooled = torch.cat([bag, most_over(hidden, mask), mean_over(hidden, mask)], 1)
        return Encoded(hidden * mask[:, :, None], self.project(pooled), mask)


class TextWords(nn.Module):
    """Nothing is learned of a text, and the network hears nothing of it: the task decodes with its words."""

    def __init__(self, dim: int, **_: float) -> None:
        super().__init__()
        self.dim, self.sequence_dim = dim, 1

    def fit_statistics(self, train: Train, modality: str) -> None:
        """There are none."""

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: token ids (B, T)."""
        zeros = torch.zeros(*x.shape, 1, device=x.device)
        return Encoded(zeros, zeros.new_zeros(len(x), self.dim), length_mask(lengths, x.shape[1]))


class _Attend(nn.Module):
    """One layer: each step looks at those that the mask leaves, then at itself.

    Plain matrix products: a fused attention has no deterministic gradient on every device.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self._attend(self.first(x), mask))
        wide = functional.gelu(self.wide(self.second(x)))
        out: Tensor = x + self.dropout(self.narrow(wide))
        return out

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, steps, width = x.shape
        parts = self.query_key_value(x).view(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        score = (query @ key.transpose(2, 3)).float() / math.sqrt(width // self.heads)
        score = score.masked_fill(mask[:, None, None] == 0, -1e9)  # finite: a text may have no step at all
        seen = score.softmax(3).to(value.dtype) @ value
        out: Tensor = self.out(seen.transpose(1, 2).reshape(batch, steps, width))
        return out


def positions(steps: int, width: int, device: torch.device) -> Tensor:
    """(T, width), width even: sine and cosine of each position at wavelengths from 2π to 20000π."""
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angle = torch.arange(steps, device=device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)


def _idf(texts: int, containing: Tensor) -> Tensor:
    """(vocabulary,), 0 for what no text has."""
    idf = ((1 + texts) / (1 + containing.double())).log() + 1
    return torch.where(containing > 0, idf, 0)


def _ids(x: Tensor, encoder: nn.Module) -> Tensor:
    """Token ids as `augment.tokens` leaves them → the same, with padding for those that it dropped."""
    return x.clamp(min=0) if encoder.training else x


def _words(embed: nn.Embedding, idf: Tensor, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) → vectors of about unit size (B, T, F), and their weighted bag (B, F)."""
    weight = idf[x.long()][:, :, None] * mask[:, :, None]
    words = embed(x.long()) * weight
    bag = words.sum(1) / (weight.square().sum(1) + 1).sqrt() * GAIN
    return words / (weight.square() + 1).sqrt() * GAIN, bag
