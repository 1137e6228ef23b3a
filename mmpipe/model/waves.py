"""Sound networks of Transformers on recordings of several lengths: each is heard as if it were alone.

Their authors' own code pads a batch and lets the padding into what it computes: the group norm of wav2vec 2.0
and HuBERT takes its moments over it, and the positional convolutions of data2vec read what stands there.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.model.parts import length_mask

FULL_SCALE = -torch.iinfo(torch.int16).min
"""What 1.0 is in a wave of 16-bit integers."""
EPSILON = 1e-7
"""Added to a recording's variance, as Transformers' feature extractor does."""
SAMPLES = 1 << 19
"""Of a batch so many, padding counted, go through the convolutions together: their maps are large."""


def amplitudes(x: Tensor) -> Tensor:
    """16-bit samples → float32 in -1 … 1; numbers with a fraction are such already."""
    return x.float() if x.is_floating_point() else x.float() / FULL_SCALE


def standardised(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, samples), (B,) → the same with mean 0 and deviation 1 over each recording's own samples."""
    mask, count = length_mask(lengths, x.shape[1]), lengths.clamp(min=1)[:, None]
    centred = (x - (x * mask).sum(1, keepdim=True) / count) * mask
    return centred / (centred.square().sum(1, keepdim=True) / count + EPSILON).sqrt()


def encode(net: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Float (B, samples), (B,) → float (B, T, C), zeros past a recording's steps, and their mask (B, T).

    `net`: of a family in `blueprint.WAVES`, without an adapter. A recording shorter than its convolutions
    reach is one of silence from there on. Nothing is masked at random: SpecAugment of `net` stays off.
    """
    least = _reach(net.config)
    lengths, x = lengths.clamp(min=least), functional.pad(x, (0, least))
    if _traced():
        return _transformed(net, _convolved(net, x, lengths), _steps(net, lengths))
    size = max(1, SAMPLES // x.shape[1])
    parts = [(x[row : row + size], lengths[row : row + size]) for row in range(0, len(x), size)]
    if net.training:
        maps = _joined([_convolved(net, *part) for part in parts])
        return _transformed(net, maps, _steps(net, lengths))
    found = [_transformed(net, _convolved(net, *part), _steps(net, part[1])) for part in parts]
    return _joined([hidden for hidden, _ in found]), _joined([mask for _, mask in found])


def _traced() -> bool:
    """A graph is of any number of samples: what is looked up in a batch would be a constant of it."""
    found: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return found


def _reach(config: Any) -> int:
    """Samples that one step is made of."""
    reach, stride = 1, 1
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        reach, stride = reach + (kernel - 1) * stride, stride * step
    return reach


def _steps(net: Any, lengths: Tensor) -> Tensor:
    found: Tensor = net._get_feat_extract_output_lengths(lengths).long()
    return found


def _convolved(net: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """(B, samples) → (B, T, channels), T that of the longest; past a recording's steps without a meaning."""
    maps, config = x[:, None, : lengths.max()], net.config
    layers = zip(net.feature_extractor.conv_layers, config.conv_kernel, config.conv_stride, strict=True)
    for layer, kernel, stride in layers:
        lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            maps = layer.activation(_normalised(norm, layer.conv(maps), lengths))
        else:
            maps = layer(maps)
    return maps.transpose(1, 2)


def _normalised(norm: nn.GroupNorm, maps: Tensor, lengths: Tensor) -> Tensor:
    """(B, channels, T): each channel by its moments over the recording's own steps; each is a group."""
    mask, count = length_mask(lengths, maps.shape[2])[:, None], lengths[:, None, None]
    maps = maps.float()
    centred = maps - (maps * mask).sum(2, keepdim=True) / count
    variance = (centred * mask).square().sum(2, keepdim=True) / count
    return centred * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]


def _transformed(net: Any, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    hidden = net.feature_projection(maps)
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    mask = length_mask(steps, hidden.shape[1])
    with warnings.catch_warnings(), _kept_silent(net.encoder.pos_conv_embed, mask):
        warnings.filterwarnings(
            "ignore", "Support for mismatched key_padding_mask"
        )  # what WavLM asks of torch
        hidden = net.encoder(hidden, attention_mask=mask.bool()).last_hidden_state
    return hidden.float() * mask[:, :, None], mask


@contextmanager
def _kept_silent(positions: Any, mask: Tensor) -> Iterator[None]:
    """What each convolution over time reads past a recording's steps is 0, as past the end of one alone."""

    def silence(_module: nn.Module, _given: Any, made: Tensor) -> Tensor:
        return made * mask[:, None]

    batch_norm = getattr(positions, "batch_norm", None)
    with ExitStack() as stack:
        for layer in [*getattr(positions, "layers", []), *([batch_norm] if batch_norm is not None else [])]:
            stack.callback(layer.register_forward_hook(silence).remove)
        yield


def _joined(parts: list[Tensor]) -> Tensor:
    """(B, T) or (B, T, C) each → one, as long as the longest."""
    longest = max(part.shape[1] for part in parts)
    after = [0, 0] * (parts[0].ndim - 2)
    return torch.cat([functional.pad(part, (*after, 0, longest - part.shape[1])) for part in parts])
