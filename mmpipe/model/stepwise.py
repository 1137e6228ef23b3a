"""A decoder one token after the other: keys and values of the memory and of a prefix are computed once."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model import decoder
from mmpipe.model.decoder import START, Decoder

Pair = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (N, heads, steps, D / heads)."""


class Stepwise:
    """What a decoder in evaluation says of prefixes, at the cost of the last token of each.

    `memory`: (B, S, M), `mask`: bool (B, S). A prefix goes on from one of the call before, of the same sample
    and a token shorter; that of no token begins anew.
    """

    def __init__(self, model: Decoder, memory: Tensor, mask: Tensor) -> None:
        assert not model.training, "dropout would draw anew for every token"
        self._model, self._mask = model, mask
        self._layers = cast(list[nn.TransformerDecoderLayer], list(model.layers))
        seen = model.memory(memory)
        self._memory = [_pair(layer.multihead_attn, seen) for layer in self._layers]
        self._shown = torch.arange(len(memory)), self._memory, mask
        self._prefix: list[Pair] = []
        self._places: dict[tuple[int, ...], int] = {}

    def __call__(self, prefixes: Tensor, rows: Tensor) -> Tensor:
        """Log p (N, V) of the next token. `prefixes`: int (N, t); `rows`: whose sample each is, int (N,).

        Samples come in order, all with as many prefixes.
        """
        names = [(row, *tokens) for row, tokens in zip(rows.tolist(), prefixes.tolist(), strict=True)]
        length, device = prefixes.shape[1], self._mask.device
        last = prefixes[:, -1:] if length else torch.full((len(names), 1), START)
        x = self._model.embed(last.to(device)) + self._model.place[length]
        before = torch.tensor([self._places[name[:-1]] for name in names], device=device) if length else None
        self._show(rows[:: int((rows == rows[0]).sum())])
        kept = []
        for number, layer in enumerate(self._layers):
            own = _pair(layer.self_attn, normed := layer.norm1(x))
            if before is not None:
                own = cast(
                    Pair,
                    tuple(_append(*both, before) for both in zip(self._prefix[number], own, strict=True)),
                )
            kept.append(own)
            x = x + _attend(layer.self_attn, normed, own)
            x = x + self._look(number, layer.norm2(x))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
        self._prefix, self._places = kept, {name: place for place, name in enumerate(names)}
        return decoder.next_log_probs(self._model.head(self._model.norm(x))[:, 0])

    def _show(self, samples: Tensor) -> None:
        """Keep the memory of these at hand; most calls are of the same ones as the call before."""
        if not torch.equal(samples, self._shown[0]):
            of = samples.to(self._mask.device)
            some = [(keys[of], values[of]) for keys, values in self._memory]
            self._shown = samples, some, self._mask[of]

    def _look(self, number: int, x: Tensor) -> Tensor:
        """Attention of (N, 1, D) to the memory: the prefixes of one sample are queries side by side."""
        samples, memory, mask = self._shown
        queries = x.view(len(samples), -1, x.shape[2])
        seen = _attend(self._layers[number].multihead_attn, queries, memory[number], mask[:, None, None])
        return seen.view_as(x)


def _pair(attention: nn.MultiheadAttention, x: Tensor) -> Pair:
    """(N, T, D) → keys and values."""
    weight, bias, dim = attention.in_proj_weight, attention.in_proj_bias, attention.embed_dim
    keys, values = functional.linear(x, weight[dim:], bias[dim:]).chunk(2, -1)
    return _split(keys, attention.num_heads), _split(values, attention.num_heads)


def _attend(attention: nn.MultiheadAttention, x: Tensor, to: Pair, mask: Tensor | None = None) -> Tensor:
    """(N, T, D) of queries from (N, T, D)."""
    weight, bias, dim = attention.in_proj_weight, attention.in_proj_bias, attention.embed_dim
    queries = _split(functional.linear(x, weight[:dim], bias[:dim]), attention.num_heads)
    seen = functional.scaled_dot_product_attention(queries, *to, attn_mask=mask)
    out: Any = attention.out_proj(seen.transpose(1, 2).flatten(2))
    return cast(Tensor, out)


def _split(x: Tensor, heads: int) -> Tensor:
    """(N, T, D) → (N, heads, T, D / heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _append(old: Tensor, new: Tensor, before: Tensor) -> Tensor:
    """Those of the prefix that each goes on from, and one step more."""
    return torch.cat([old[before], new], 2)
