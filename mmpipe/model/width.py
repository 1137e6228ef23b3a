"""How wide a backbone's outputs are: one forward pass of it, on tensors that have shapes and no content."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmpipe.blueprint import OTHER
from mmpipe.errors import InvalidError
from mmpipe.model import pretrained
from mmpipe.model.pretrained import Backbone

TOKENS = 4
"""Of the text that is looked through."""


def measured(made: Mapping[str, Any], *, source: str, side: int) -> dict[str, Any]:
    """The blueprint with `width`, and with `sequence_width` where its sequence has another one.

    Nothing is computed and no memory taken, except of a network that asks for values on the way. `side`: of
    the pictures, px. Raises NotFoundError `library-missing`, and InvalidError `weights-format` for a network
    that gives no sequence of such an input.
    """
    try:
        return {**made, **_widths(made, side, "meta")}
    except (NotImplementedError, RuntimeError):  # it asks for a value, which a tensor without content lacks
        pass
    except InvalidError as error:
        raise InvalidError(error.code, error.what, where=source, fix=OTHER) from None
    except (*pretrained.NONE, IndexError) as error:
        raise _refusal(made, error, source, side) from None
    try:
        return {**made, **_widths(made, side, "cpu")}
    except (*pretrained.NONE, IndexError, NotImplementedError, RuntimeError) as error:
        raise _refusal(made, error, source, side) from None


def completed(made: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """As `pretrained.completed`, with the source in what it raises."""
    try:
        return pretrained.completed(made)
    except InvalidError as error:
        raise InvalidError(error.code, error.what, where=source, fix=OTHER) from None


def _refusal(made: Mapping[str, Any], error: Exception, source: str, side: int) -> InvalidError:
    size, fix = "", OTHER
    if made["modality"] == "image":
        size, fix = f" of {side} × {side} px", f"set image.size to the side of its pictures, or {OTHER}"
    what = f"is of a network that makes no sequence of {made['modality']}{size} ({_words(error)})"
    return InvalidError("weights-format", what, where=source, fix=fix)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _widths(made: Mapping[str, Any], side: int, device: str) -> dict[str, int]:
    with torch.device(device):
        net = pretrained.build({**made, "width": 1}).eval()
        with torch.inference_mode():
            pooled, sequence = _outputs(net, side)
    if sequence.ndim != 3 or pooled.ndim != 2:
        raise ValueError(f"its output has the shape {tuple(sequence.shape)}")
    found = {"width": pooled.shape[-1]}
    return found if sequence.shape[-1] == found["width"] else {**found, "sequence_width": sequence.shape[-1]}


def _outputs(net: Backbone, side: int) -> tuple[Tensor, Tensor]:
    """Pooled and sequence. Texts and waves go in without a mask, whose values most networks ask for."""
    if net.modality == "text":
        hidden: Tensor = net.net(input_ids=torch.zeros(1, TOKENS, dtype=torch.long)).last_hidden_state
        return hidden[:, 0], hidden
    if net.modality == "audio":
        heard: Tensor = net.net(input_values=torch.zeros(1, int(net.made["sample_rate"]))).last_hidden_state
        return heard.mean(1), heard
    encoded = net(torch.zeros(1, 3, side, side), torch.ones(1, dtype=torch.long))
    return encoded.pooled, encoded.sequence
