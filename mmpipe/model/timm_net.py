"""Networks of pictures that timm has code for, by the name of their architecture: never any other code.

Loaded by name (`model.pretrained`), so that only who uses such a network depends on timm.
"""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

LEFT_OUT = frozenset(
    {
        *("cache_dir", "checkpoint_path", "device", "dtype", "exportable", "features_only", "no_jit"),
        *("num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_filter_fn"),
        *("pretrained_model_args", "pretrained_strict", "pruned", "scriptable"),
    }
)
"""Of a config's `model_args`: what says nothing of the network, or makes timm fetch or unpickle a file."""
PREFIX = "timm_model."
"""Of names in a folder that Transformers' wrapper of timm has written."""
KNOWN = ("fixed_input_size", "input_size")
"""Of a config's `pretrained_cfg`: what the shape of the network depends on."""


class Features(nn.Module):
    """timm's network without its classifier, which is not among its weights' names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), scaled → the sequence (B, T, C) and what timm's classifier would read, (B, D)."""
        net: Any = self.net
        maps = net.forward_features(x)
        pooled: Tensor = net.forward_head(maps, pre_logits=True)
        if not isinstance(maps, Tensor):  # of several scales
            return pooled[:, None], pooled
        if maps.ndim == 4:
            last = getattr(net, "output_fmt", None) == "NHWC"
            maps = maps.flatten(1, 2) if last else maps.flatten(2).transpose(1, 2)
        return maps, pooled


def network(config: Mapping[str, Any]) -> nn.Module:
    """A network with weights of no meaning. Raises RuntimeError, TypeError or ValueError for what is none."""
    name = str(config["architecture"])
    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no {name}")
    told = config.get("pretrained_cfg", {})
    own = {key: value for key, value in config.get("model_args", {}).items() if key not in LEFT_OUT}
    shape = {"pretrained_cfg": {key: told[key] for key in KNOWN if key in told}}
    return Features(timm.create_model(name, pretrained=False, num_classes=0, **shape, **own))


def filled(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """The network with these tensors, by timm's names, and the names of those that it lacks.

    Raises RuntimeError for tensors of another shape.
    """
    net: Any = network(config)
    named = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    report = net.net.load_state_dict(named, strict=False)
    return net, sorted(report.missing_keys)
