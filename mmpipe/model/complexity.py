"""What one prediction costs: parameters, and multiply-adds of the largest sample there can be."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmpipe import batches
from mmpipe.model.network import Network
from mmpipe.model.pretrained import Backbone


def measure(
    model: Network, facts: Mapping[str, Mapping[str, Any]], backbones: Mapping[str, Backbone] | None = None
) -> dict[str, int]:
    """`parameters`, and `multiply_adds` of matrix products and convolutions for one sample with everything.

    `facts`: {modality: facts of its feature table}. `backbones`: the frozen ones, which count, too. Both
    numbers depend on the architecture alone.
    """
    arrays = {m: [_largest(facts[m])] for m in model.modalities}
    dataset = batches.from_arrays(["largest"], arrays, {m: facts[m]["shape"] for m in model.modalities})
    batch = dataset.to(model.device).batch(np.arange(1)).to(model.device)
    training = model.training
    frozen = backbones or {}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(batch)
        for modality, net in frozen.items():
            net(*_one(modality, facts[modality]["base"], net.mean.device))
    model.train(training)
    return {
        "parameters": sum(
            parameter.numel() for net in (model, *frozen.values()) for parameter in net.parameters()
        ),
        "multiply_adds": counter.get_total_flops() // 2,
    }


def _one(modality: str, facts: Mapping[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """The largest raw input, and its length, as a backbone takes them."""
    array = _largest(facts)
    x = torch.from_numpy(array)[None].to(device)
    lengths = torch.tensor([len(array)], device=device)
    return (x.permute(0, 3, 1, 2) if modality == "image" else x), lengths


def _largest(facts: Mapping[str, Any]) -> NDArray[Any]:
    """A feature of zeros (of ones for token ids) as long as the extractor makes them at most."""
    longest = int(facts.get("max_tokens", 0))
    if facts.get("kind") == "wave":
        longest = int(facts["max_duration_s"] * facts["sample_rate"])
    elif "max_duration_s" in facts:
        longest = 1 + int(facts["max_duration_s"] * facts["sample_rate"]) // int(facts["hop_length"])
    shape = [longest or 1 if size == -1 else size for size in facts["shape"]]
    return np.full(shape, int("max_tokens" in facts), facts["dtype"])
