"""The decoder of answers as an ONNX graph: a memory and tokens so far in, the next one's chances out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.decoder import Decoder, next_log_probs
from mmpipe.model.graph import Port, memory_ports, traced
from mmpipe.model.network import Network
from mmpipe.model.writer import Writer


def inputs(network: Network) -> list[Port]:
    """`memory` and `memory_counts`, which the other graph gives, and `tokens`."""
    words = "the start token, then those that are written so far"
    return [*memory_ports(network), Port("tokens", "int64", ("batch", "written"), words)]


def outputs(network: Network) -> list[Port]:
    """`log_probabilities`."""
    size = writer(network).decoder.embed.num_embeddings
    words = "natural logarithms, after each of the tokens, of the next one"
    return [Port("log_probabilities", "float32", ("batch", "written", size), words)]


def writer(network: Network) -> Writer:
    """The head of a task that writes."""
    assert isinstance(network.head, Writer)
    return network.head


class Next(nn.Module):
    """What a decoder says after each token, the start among them.

    Its layers are written out: of torch's own attention a trace keeps the lengths that it was made with.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, memory: Tensor, counts: Tensor, tokens: Tensor) -> Tensor:
        """`tokens`: (B, T) from the start on → (B, T, V)."""
        own, place = self.decoder, torch.arange(tokens.shape[1])
        x = own.embed(tokens) + own.place[: tokens.shape[1]]
        seen, earlier = own.memory(memory), (place <= place[:, None])[None, None]
        for layer in own.layers:
            assert isinstance(layer, nn.TransformerDecoderLayer)
            near = layer.norm1(x)
            x = x + _attend(layer.self_attn, near, near, earlier)
            x = x + _attend(layer.multihead_attn, layer.norm2(x), seen, counts[:, None, None])
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
        return next_log_probs(own.head(own.norm(x)))


def _attend(attention: nn.MultiheadAttention, x: Tensor, source: Tensor, allowed: Tensor) -> Tensor:
    """(B, T, D) of `x` (B, T, D) that looks at `source` (B, S, D); `allowed`: bool, as (B, heads, T, S)."""
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    parts = []
    for given, weight, bias in zip((x, source, source), weights, biases, strict=True):
        part = functional.linear(given, weight, bias)
        shape = (part.shape[0], part.shape[1], attention.num_heads, attention.head_dim)
        parts.append(part.reshape(shape).transpose(1, 2))
    query, key, value = parts
    scores = query @ key.transpose(2, 3) / math.sqrt(attention.head_dim)
    chances = scores.masked_fill(~allowed, -math.inf).softmax(3)
    found: Tensor = attention.out_proj((chances @ value).transpose(1, 2).flatten(2))
    return found


def to_onnx(network: Network) -> bytes:
    """The graph of the decoder of a network in evaluation mode on the CPU.

    Raises InvalidError `export-unsupported` for what ONNX has no words for.
    """
    module = Next(writer(network).decoder).eval()
    return traced(module, inputs(network), outputs(network), "a decoder of text")
