"""Random changes of a training batch, made whole on its device.

The random numbers come from torch's global generator, which the caller seeds at each step: no state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mmpipe.batches import DROPPED, Batch
from mmpipe.model import waves
from mmpipe.model.encoders import length_mask


@dataclass(frozen=True)
class Settings:
    """How much; 0 everywhere = none. Meanings and units are those of `augment` in params.yaml."""

    image_flip: float = 0.0
    image_crop: float = 0.0
    image_rotate: float = 0.0
    image_color: float = 0.0
    image_hue: float = 0.0
    image_erase: float = 0.0
    audio_gain: float = 0.0
    audio_stretch: float = 0.0
    audio_time_mask: float = 0.0
    audio_mel_mask: float = 0.0
    token_dropout: float = 0.0


def apply(batch: Batch, settings: Settings) -> Batch:
    """The batch with changed inputs; vectors of frozen backbones stay as they are."""
    inputs, lengths = dict(batch.inputs), dict(batch.lengths)
    raw = {m for m, x in inputs.items() if x.ndim != 2 or not x.is_floating_point()}
    if "image" in raw:
        inputs["image"] = image(inputs["image"], settings)
    if "audio" in raw:
        change = wave if inputs["audio"].ndim == 2 else audio
        inputs["audio"], lengths["audio"] = change(inputs["audio"], lengths["audio"], settings)
    if "text" in raw:
        inputs["text"] = tokens(inputs["text"], lengths["text"], settings.token_dropout)
    return replace(batch, inputs=inputs, lengths=lengths)


def image(x: Tensor, settings: Settings) -> Tensor:
    """(B, 3, H, W) in 0 … 255 → float32 of the same shape: moved, recoloured, with a square erased."""
    x = x.float()
    if settings.image_flip or settings.image_crop or settings.image_rotate:
        grid = functional.affine_grid(_affine(x, settings), list(x.shape), align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    ink = 255 - x  # white stays white: it is what fills the square around a picture
    if settings.image_color:
        grey = ink.mean(1, keepdim=True)
        ink = grey + (ink - grey) * (1 + settings.image_color * _signed(x, 1, 1, 1))
        ink = ink * (1 + settings.image_color * _signed(x, 1, 1, 1))
    if settings.image_hue:
        ink = ink * (1 + settings.image_hue * _signed(x, 3, 1, 1))
    x = 255 - ink
    if settings.image_erase:
        x = _erase(x, settings.image_erase)
    return x.clamp(0, 255).contiguous(memory_format=torch.channels_last)


def audio(x: Tensor, lengths: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """(B, T, M) log-mel, (B,) → float32, new lengths ≤ T: loudness, tilt, tempo, SpecAugment masks."""
    x = x.float()
    if settings.audio_gain:
        tilt = torch.linspace(-1, 1, x.shape[2], device=x.device)
        x = x + settings.audio_gain * (_normal(x) + _normal(x) * tilt)
    if settings.audio_stretch:
        x, lengths = _stretch(x, lengths, settings.audio_stretch)
    valid = length_mask(lengths, x.shape[1])[:, :, None]
    mean = (x * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
    for _ in range(2):
        time = _span(lengths, x.shape[1], settings.audio_time_mask / 2)[:, :, None]
        bands = torch.full_like(lengths, x.shape[2])
        mel = _span(bands, x.shape[2], settings.audio_mel_mask / 2)[:, None, :]
        x = torch.where(time | mel, mean, x)
    return x * valid, lengths


def wave(x: Tensor, lengths: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """(B, samples) of 16 bits, (B,) → float32 in -1 … 1, new lengths ≤ samples: tempo, two silent spans.

    The pitch goes with the tempo (Ko et al. 2015).
    """
    x = waves.amplitudes(x)
    if settings.audio_stretch:
        x, lengths = _resample(x, lengths, settings.audio_stretch)
    for _ in range(2):
        x = x.masked_fill(_span(lengths, x.shape[1], settings.audio_time_mask / 2), 0.0)
    return x * length_mask(lengths, x.shape[1]), lengths


def tokens(x: Tensor, lengths: Tensor, probability: float) -> Tensor:
    """(B, T) token ids, some of them replaced by `batches.DROPPED`."""
    hit = torch.rand(x.shape, device=x.device) < probability
    inside = length_mask(lengths, x.shape[1]).bool()
    return torch.where(hit & inside, torch.full_like(x, DROPPED), x)


def drop_modalities(present: Mapping[str, Tensor], probability: float) -> dict[str, Tensor]:
    """{modality: bool (B,)} with some hidden; of those that a sample has, one always stays."""
    marks = torch.stack([present[m] for m in sorted(present)], 1)
    kept = marks & (torch.rand(marks.shape, device=marks.device) >= probability)
    chosen = (torch.rand(marks.shape, device=marks.device) + 1).mul(marks).argmax(1, keepdim=True)
    lonely = ~kept.any(1, keepdim=True) & marks
    kept |= lonely & (torch.arange(marks.shape[1], device=marks.device) == chosen)
    return dict(zip(sorted(present), kept.unbind(1), strict=True))


def _signed(x: Tensor, *shape: int) -> Tensor:
    """Uniform in -1 … 1, one draw a sample."""
    return torch.rand(x.shape[0], *shape, device=x.device) * 2 - 1


def _normal(x: Tensor) -> Tensor:
    return torch.randn(x.shape[0], 1, 1, device=x.device)


def _affine(x: Tensor, settings: Settings) -> Tensor:
    """(B, 2, 3): flip, rotation, zoom with a little aspect, shift."""
    angle = _signed(x) * settings.image_rotate * math.pi / 180
    zoom, aspect = (_signed(x) * settings.image_crop).exp(), (_signed(x) * settings.image_crop / 2).exp()
    mirror = torch.where(torch.rand(len(x), device=x.device) < settings.image_flip, -1.0, 1.0)
    shift_x, shift_y = _signed(x) * settings.image_crop, _signed(x) * settings.image_crop
    across = torch.stack([mirror * zoom * aspect * angle.cos(), -zoom * angle.sin(), shift_x], 1)
    down = torch.stack([mirror * zoom * angle.sin(), zoom / aspect * angle.cos(), shift_y], 1)
    return torch.stack([across, down], 1)


def _erase(x: Tensor, probability: float) -> Tensor:
    """A square of 0.4 × the side becomes the picture's mean colour."""
    height, width = x.shape[2:]
    hit = torch.rand(len(x), 1, 1, device=x.device) < probability
    row, column = (torch.rand(len(x), 1, 1, device=x.device) for _ in range(2))
    rows = (torch.arange(height, device=x.device)[None, :, None] / height - row).abs() < 0.2
    columns = (torch.arange(width, device=x.device)[None, None, :] / width - column).abs() < 0.2
    return torch.where((hit & rows & columns)[:, None], x.mean((2, 3), keepdim=True), x)


def _stretch(x: Tensor, lengths: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Play each sample exp(±amount) times as fast, by the nearest frame."""
    source, lengths = _played(x, lengths, amount)
    return x.gather(1, source.long()[:, :, None].expand_as(x)), lengths


def _resample(x: Tensor, lengths: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """The same of a wave, on the straight line between two samples."""
    source, lengths = _played(x, lengths, amount)
    first = source.long()
    after = (first + 1).clamp(max=x.shape[1] - 1)
    return torch.lerp(x.gather(1, first), x.gather(1, after), source - first), lengths


def _played(x: Tensor, lengths: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Where each step of (B, T, …) comes from, (B, T), and the new lengths."""
    speed = (_signed(x) * amount).exp()
    steps = torch.arange(x.shape[1], device=x.device)
    source = (steps * speed[:, None]).clamp(max=x.shape[1] - 1)
    longer = (lengths / speed).long().clamp(min=1, max=x.shape[1])
    return source, torch.where(lengths > 0, longer, lengths)


def _span(sizes: Tensor, steps: int, share: float) -> Tensor:
    """Bool (B, steps): a run of at most `share` of each size, somewhere within it."""
    width = torch.rand(len(sizes), device=sizes.device) * share * sizes
    start = torch.rand(len(sizes), device=sizes.device) * (sizes - width)
    where = torch.arange(steps, device=sizes.device)
    return (where >= start[:, None].floor()) & (where < (start + width)[:, None].floor())
