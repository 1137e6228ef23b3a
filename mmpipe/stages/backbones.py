"""The backbones of a network to be trained: those that learn on, and those that stay frozen."""

from collections.abc import Mapping
from typing import Any

from mmpipe import weights
from mmpipe.features import embedding
from mmpipe.model import pretrained
from mmpipe.model.network import Network
from mmpipe.model.pretrained import Backbone
from mmpipe.stages.pretrained import encoder


def start(network: Network, params: Any) -> None:
    """Give the encoders that are to go on from pretrained weights these weights."""
    for modality in network.modalities:
        if encoder(params, modality) == "pretrained":
            fresh: Any = network.encoders[modality]
            found = weights.find(getattr(params, modality).pretrained)
            loaded = pretrained.load(fresh.backbone.made, found)
            fresh.backbone.load_state_dict(loaded.state_dict())


def frozen(params: Any, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Backbone]:
    """{modality: backbone}, of the very weights that made the feature tables, of which `facts` are.

    Raises VerificationError `weights-changed` for others.
    """
    return {
        modality: embedding.backbone(
            told["blueprint"], getattr(params, modality).pretrained, told["weights_sha256"]
        )
        for modality, told in facts.items()
        if encoder(params, modality) == "vector"
    }
