"""Networks that Hugging Face's Transformers has code for, by their configuration: never any other code.

Loaded by name (`model.pretrained`), so that only who uses such a network depends on Transformers.
"""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mmpipe import blueprint

ATTENTION = "eager"
"""Plain matrix products, whose results depend on the input alone."""


def network(config: Mapping[str, Any]) -> nn.Module:
    """A network with weights of no meaning. Raises KeyError, TypeError or ValueError for what is none."""
    told = _config(config)
    kind: Any = _own(told)
    if kind is not None:
        return _module(kind._from_config(told, attn_implementation=ATTENTION))
    kind = transformers.AutoModel
    return _module(kind.from_config(told, attn_implementation=ATTENTION, trust_remote_code=False))


def filled(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """The network with these tensors, by the names of its files, old ones too; and those that it lacks."""
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with torch.device("meta"):
        kind: Any = type(network(config))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)  # of a pooler that the files lack and nothing here uses
        net, report = kind.from_pretrained(
            None,
            config=_config(config),
            state_dict=tensors,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
        )
    return net, sorted(name for name in report["missing_keys"] if "pooler" not in name)


def limits(config: Mapping[str, Any]) -> dict[str, Any]:
    """The side of its pictures and the length of its texts, as far as such a network has them."""
    told = _config(config)
    found = {name: getattr(told, name, None) for name in ("image_size", "max_position_embeddings")}
    return {name: value for name, value in found.items() if isinstance(value, int | list)}


def _own(config: Any) -> Any:
    """The class of a tower that AutoModel does not list, as SigLIP's for texts is; None of those it does."""
    if type(config) in transformers.AutoModel._model_mapping:
        return None
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)


def _module(net: nn.Module) -> nn.Module:
    return net


def _config(config: Mapping[str, Any]) -> Any:
    told = {key: value for key, value in config.items() if key not in blueprint.LEFT_OUT}
    return transformers.AutoConfig.for_model(**told)
