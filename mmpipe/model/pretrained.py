"""Backbones that others have trained, by blueprint: a modality's raw input → a sequence and one vector."""

import importlib
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe import blueprint
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.model import waves
from mmpipe.model.efficientnet import EfficientNetLite0
from mmpipe.model.parts import Encoded, all_steps, length_mask, mean_over
from mmpipe.weights import CONFIG, Weights

LIBRARIES = {"transformers": ("mmpipe.model.auto", "Transformers"), "timm": ("mmpipe.model.timm_net", "timm")}
"""Kind → the module that builds its networks, and the library: named, not imported, so that who has none of
its networks does not depend on it."""
WHOLE = "give the config.json and the safetensors of one and the same model"
NONE = (AssertionError, AttributeError, KeyError, TypeError, ValueError)
"""What the libraries raise where a configuration is none of theirs."""


class Backbone(nn.Module):
    """`net` between what its blueprint says of its input and how its output is pooled.

    `width`: of the pooled vector; `sequence_width`: C, of a step.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, made: Mapping[str, Any], net: nn.Module) -> None:
        super().__init__()
        self.made = dict(made)
        self.modality, self.width = str(made["modality"]), int(made["width"])
        self.sequence_width = int(made.get("sequence_width", self.width))
        self.net = net
        for name in ("mean", "deviation"):
            value = torch.tensor(made.get(name, [0.0] * 3), dtype=torch.float32)
            self.register_buffer(name, value.view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """`x`: pictures (B, 3, H, W) in 0 … 255, int token ids (B, T) or waves (B, samples).

        Waves are float in -1 … 1, or 16-bit integers; of a family beyond `blueprint.WAVES`, of one length.
        """
        read = {"audio": self._audio, "image": self._image, "text": self._text}[self.modality]
        encoded: Encoded = read(x, lengths)
        return encoded

    def _image(self, x: Tensor, _lengths: Tensor) -> Encoded:
        x = x.flip(1) if self.made.get("flip") else x
        x = ((x.float() - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        if self.made["kind"] == "timm":
            sequence, pooled = self.net(x)
            return Encoded(sequence, pooled, all_steps(sequence))
        if self.made["kind"] == "efficientnet_lite0":
            maps = self.net(x)
        else:
            maps = self.net(pixel_values=x).last_hidden_state
        sequence = maps.flatten(2).transpose(1, 2) if maps.ndim == 4 else maps
        return Encoded(sequence, sequence.mean(1), all_steps(sequence))

    def _text(self, x: Tensor, lengths: Tensor) -> Encoded:
        """A token that training has dropped (below 0, after the first) is not attended, like padding."""
        mask = length_mask(lengths, x.shape[1])
        if self.training:
            mask[:, 1:] *= x[:, 1:] >= 0
            x = x.clamp(min=0)
        hidden = self.net(input_ids=x.long(), attention_mask=mask.long()).last_hidden_state
        pooled = hidden[:, 0] if self.made["pooling"] == "cls" else mean_over(hidden, mask)
        if self.made["unit"]:
            pooled = functional.normalize(pooled.float(), dim=1)
        return Encoded(hidden * mask[:, :, None], pooled, mask)

    def _audio(self, x: Tensor, lengths: Tensor) -> Encoded:
        x = waves.amplitudes(x) * length_mask(lengths, x.shape[1])
        if self.made["standardize"]:
            x = waves.standardised(x, lengths)
        if blueprint.learns(self.made):
            hidden, mask = waves.encode(self.net, x, lengths)
            return Encoded(hidden, mean_over(hidden, mask), mask)
        hidden = self.net(input_values=x).last_hidden_state
        return Encoded(hidden, hidden.mean(1), all_steps(hidden))


def build(made: Mapping[str, Any]) -> Backbone:
    """The backbone of a blueprint, with weights of no meaning.

    Raises NotFoundError `library-missing` without Transformers, InvalidError `weights-format` for a blueprint
    that says what no backbone is.
    """
    try:
        return Backbone(made, _net(made))
    except NONE as error:
        raise _no_backbone(error) from None


def completed(made: Mapping[str, Any]) -> dict[str, Any]:
    """The blueprint with limits that Transformers knows and its files leave out. Raises as `build` does."""
    if made["kind"] != "transformers":
        return dict(made)
    try:
        limits = _library(made).limits(made["config"])
    except NONE as error:
        raise _no_backbone(error) from None
    return {**made, "config": {**limits, **made["config"]}}


def _no_backbone(error: Exception) -> InvalidError:
    return InvalidError("weights-format", f"describes no backbone ({type(error).__name__}: {error})")


def load(made: Mapping[str, Any], weights: Weights) -> Backbone:
    """The backbone of a blueprint with these weights, in evaluation mode and without gradients.

    Raises as `build` does, and InvalidError `weights-format` where tensors are lacking or of another shape.
    """
    net = _lite(weights) if made["kind"] == "efficientnet_lite0" else _from_files(made, weights)
    return Backbone(made, net).eval().requires_grad_(False)


def _tensors(weights: Weights) -> dict[str, Tensor]:
    if weights.pickled:
        from mmpipe.model import pickled

        return pickled.load(weights.pickled)
    tensors: dict[str, Tensor] = {}
    for path in weights.tensors:
        tensors |= safetensors.torch.load_file(path)
    return {name: value for name, value in tensors.items() if not name.startswith("classifier.")}


def _lite(weights: Weights) -> nn.Module:
    net = EfficientNetLite0()
    try:
        net.load_state_dict(_tensors(weights))
    except RuntimeError as error:
        what = f"holds other tensors than its architecture ({str(error).splitlines()[1].strip()[:200]})"
        raise InvalidError("weights-format", what, where=weights.source, fix=WHOLE) from None
    return net


def _net(made: Mapping[str, Any]) -> nn.Module:
    if made["kind"] == "efficientnet_lite0":
        return EfficientNetLite0()
    net: nn.Module = _library(made).network(made["config"])
    return net


def _from_files(made: Mapping[str, Any], weights: Weights) -> nn.Module:
    tensors = _tensors(weights)
    try:
        net, lacking = _library(made).filled(made["config"], tensors)
    except RuntimeError as error:
        what = f"holds other tensors than its {CONFIG} describes ({' '.join(str(error).split())[:200]})"
        raise InvalidError("weights-format", what, where=weights.source, fix=WHOLE) from None
    if lacking:
        what = f"lacks {len(lacking)} of its tensors, {lacking[0]} first"
        raise InvalidError("weights-format", what, where=weights.source, fix=WHOLE)
    found: nn.Module = net
    return found


def _library(made: Mapping[str, Any]) -> Any:
    module, library = LIBRARIES[made["kind"]]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        what = f"this model needs {library} ({error.name} is not installed)"
        raise NotFoundError("library-missing", what, fix="pip install 'mmpipe[pretrained]'") from None
