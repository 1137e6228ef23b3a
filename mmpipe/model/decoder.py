"""An autoregressive decoder of text: a small transformer that attends to a fused sequence."""

import torch
from torch import Tensor, nn
from torch.nn import functional

END = 0
"""Token id after an answer; it also fills up short ones. As `<pad>` of `features.text`."""
START = 1
"""Token id before an answer; never in one. As `<mask>` of `features.text`."""


class Decoder(nn.Module):
    """Pre-norm transformer layers: causal self-attention, attention to the memory, feed-forward.

    `memory_dim`: M, width of the fused sequence. `max_tokens`: of an answer, its end not counted.
    """

    def __init__(  # noqa: PLR0913 (the keys of a bundle's architecture)
        self,
        vocab_size: int,
        dim: int,
        *,
        memory_dim: int,
        max_tokens: int,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.embed = nn.Embedding(vocab_size, dim)
        self.place = nn.Parameter(torch.zeros(max_tokens + 1, dim))
        for weight in (self.embed.weight, self.place):
            nn.init.normal_(weight, std=0.02)
        self.memory = nn.Sequential(nn.LayerNorm(memory_dim), nn.Linear(memory_dim, dim))
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(dim, heads, 4 * dim, dropout, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size)

    def forward(self, memory: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, T, V): at t, of what comes after the first t of `tokens`, int (B, T).

        `memory`: (B, S, M); `mask`: bool (B, S), its steps that count, at least one a sample. The last of
        `tokens` has no influence: with targets as tokens this is teacher forcing.
        """
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], 1)
        steps = tokens.shape[1]
        x = self.embed(before.long()) + self.place[:steps]
        later = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        seen = self.memory(memory)
        for layer in self.layers:
            x = layer(x, seen, tgt_mask=later, memory_key_padding_mask=~mask)
        logits: Tensor = self.head(self.norm(x)).float()
        return logits


def log_likelihood(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """log p (B,) of whole answers, nats. `tokens`: (B, T); `lengths`: (B,), `END` counted.

    Without a token that cannot be in an answer, `START`, the probabilities of all answers sum to 1.
    """
    own = next_log_probs(logits).gather(2, tokens.long()[:, :, None])[:, :, 0]
    inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return torch.where(inside, own, 0).sum(1)


def loss(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """-log p a token, over all tokens of the batch, each answer's `END` among them: a scalar, nats."""
    return -log_likelihood(logits, tokens, lengths).sum() / lengths.sum().clamp(min=1)


def next_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities over the last axis, of everything but `START`."""
    start = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    start[START] = True
    return functional.log_softmax(logits.float().masked_fill(start, float("-inf")), -1)
