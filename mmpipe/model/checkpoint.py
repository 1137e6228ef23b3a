"""A bundle and the network in it: weights as safetensors, the rest as JSON; never unpickles."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from mmpipe import batches, bundle, files
from mmpipe.bundle import CONFIG, DECODING, FROZEN, METRICS, TOKENIZER, WEIGHTS
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.features import embedding
from mmpipe.model import pretrained
from mmpipe.model.configuration import Config
from mmpipe.model.network import Network, build_model
from mmpipe.model.pretrained import Backbone
from mmpipe.targets import Coding
from mmpipe.tasks.task import Decoding, Task
from mmpipe.transcripts import words
from mmpipe.transcripts.units import Units

FORMAT = 1
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Bundle:
    """A verified model in evaluation mode, with all that prediction needs.

    `preprocessing`: {modality: keyword arguments of its extractor}. `features`: {modality: dtype, shape and
    facts of what that makes}. `backbones`: {modality: what makes a vector of it}. `config`: all of
    config.json. `digest`: sha256 over the whole bundle.
    """

    model: Network
    decoding: Decoding
    preprocessing: dict[str, dict[str, Any]]
    features: dict[str, dict[str, Any]]
    tokenizer: str | None
    metrics: dict[str, Any]
    config: dict[str, Any]
    digest: str
    origin: bundle.Origin | None = None
    backbones: Mapping[str, Backbone] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """Those the model was trained with, sorted."""
        return self.model.modalities

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return self.model.task

    @property
    def task_name(self) -> str:
        """As `model.task` in params.yaml has it."""
        return str(self.config["architecture"].get("task", "classify"))

    @property
    def labels(self) -> list[str]:
        """Those it knows, sorted; none of a task without labels."""
        return self.decoding.labels

    @property
    def temperature(self) -> float:
        """Of its softmax."""
        return self.decoding.temperature

    @property
    def coding(self) -> Coding:
        """How targets are numbers for it."""
        told = self.decoding.facts
        facts: dict[str, Any] = {name: told[name] for name in ("mean", "deviation") if name in told}
        facts |= {"units": Units.from_json(json.dumps(told["units"]))} if self.task.kind == "text" else {}
        return Coding(self.task.kind, tuple(self.labels), **facts)

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """{modality: what the network reads of it}: of a frozen backbone vectors, `base` what that reads."""
        vectors = {
            m: {"shape": [net.width], "dtype": "float32", "base": self.features[m]}
            for m, net in self.backbones.items()
        }
        return {**self.features, **vectors}

    def words(self, tokens: Sequence[NDArray[Any] | None]) -> list[str]:
        """What each sample's text says, of a model that reads it as words, as far as it does; else nothing.

        `tokens`: the text as a feature, None where it is absent.
        """
        if self.tokenizer is None or self.config["architecture"].get("text") != "words":
            return []
        return words.decode(tokens, self.tokenizer)

    def dataset(
        self, ids: Sequence[str], arrays: Mapping[str, Sequence[NDArray[Any] | None]]
    ) -> batches.Dataset:
        """Features just extracted, None where absent → a dataset whose batches the model takes."""
        shapes = {m: self.features[m]["shape"] for m in self.modalities}
        shapes |= {m: [net.width] for m, net in self.backbones.items()}
        found = {m: arrays[m] for m in self.modalities if m in arrays}
        found |= {m: _vectors(net, arrays[m]) for m, net in self.backbones.items() if m in arrays}
        return batches.from_arrays(ids, found, shapes)


def save_bundle(  # noqa: PLR0913 (what a bundle is made of)
    folder: Path,
    model: Network,
    *,
    config: Mapping[str, Any],
    architecture: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tokenizer: str | None,
    backbones: Mapping[str, Backbone] = MappingProxyType({}),
    arrays: Mapping[str, NDArray[np.int32]] = MappingProxyType({}),
) -> str:
    """Write the bundle and return its digest; `folder` is replaced whole, at once.

    `config` holds at least labels, temperature, decoding, preprocessing and features. `backbones`: the frozen
    ones, in files of their own, which are the same bytes in every bundle that has them. `arrays`: of the
    decoding.
    """
    contents = {
        WEIGHTS: _serialised(model),
        **{FROZEN[m]: _serialised(net) for m, net in sorted(backbones.items())},
        CONFIG: files.canonical_json(
            {**config, "format": FORMAT, "architecture": dict(architecture)}
        ).encode(),
        METRICS: files.canonical_json(metrics).encode(),
    }
    if arrays:
        contents[DECODING] = safetensors.numpy.save(dict(sorted(arrays.items())))
    if tokenizer is not None:
        contents[TOKENIZER] = tokenizer.encode()
    return bundle.write(folder, contents)


def load_bundle(folder: Path, *, device: torch.device | None = None, for_tables: bool = False) -> Bundle:
    """Verify every byte, then build the model; its frozen backbones, too, unless `for_tables` of features.

    Raises NotFoundError `bundle-missing`, VerificationError `bundle-damaged` naming the file, or InvalidError
    `bundle-format` for another version or a pickle, and `library-missing` where a backbone needs one.
    """
    whole = bundle.read(folder)
    contents = whole.files
    config = bundle.parse_object(contents[CONFIG], str(folder / CONFIG))
    arrays = _arrays(contents[DECODING], folder / DECODING) if DECODING in contents else {}
    checked = _check(config, folder / CONFIG, tokenizer=TOKENIZER in contents, arrays=arrays)
    made = checked.architecture
    if odd := sorted({FROZEN[m] for m in made.frozen()} ^ (set(FROZEN.values()) & set(contents))):
        what = f"contradicts the architecture in {CONFIG}"
        raise VerificationError("bundle-damaged", what, where=str(folder / odd[0]))
    model = _filled(lambda: build_model(**made.model_dump()), contents[WEIGHTS], folder / WEIGHTS)
    backbones = (
        {} if for_tables else {m: _backbone(made.backbones[m], contents, folder) for m in made.frozen()}
    )
    return Bundle(
        model=model.to(device).eval(),
        backbones={m: net.to(device).eval().requires_grad_(False) for m, net in backbones.items()},
        decoding=checked.decoder(arrays),
        preprocessing=checked.preprocessing,
        features={m: feature.model_dump() for m, feature in checked.features.items()},
        tokenizer=contents[TOKENIZER].decode() if TOKENIZER in contents else None,
        metrics=bundle.parse_object(contents[METRICS], str(folder / METRICS)),
        config=config,
        digest=whole.digest,
        origin=whole.origin,
    )


def _arrays(data: bytes, path: Path) -> dict[str, NDArray[np.int32]]:
    try:
        found: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise VerificationError("bundle-damaged", f"holds no arrays ({error})", where=str(path)) from None
    if odd := sorted(name for name, array in found.items() if array.dtype != np.int32):
        raise VerificationError("bundle-damaged", f"holds {odd[0]} of another type", where=str(path))
    return found


def _check(
    config: dict[str, Any], path: Path, *, tokenizer: bool, arrays: dict[str, NDArray[np.int32]]
) -> Config:
    if config.get("format") != FORMAT:
        what = f"has format {config.get('format')!r}, this version reads {FORMAT}"
        raise InvalidError("bundle-format", what, where=str(path))
    try:
        checked = Config.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"is not valid at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VerificationError("bundle-damaged", what, where=str(path)) from None
    if odd := checked.contradiction(arrays, tokenizer=tokenizer):
        raise VerificationError("bundle-damaged", f"contradicts itself: {odd}", where=str(path))
    return checked


def _filled(build: Callable[[], Net], data: bytes, path: Path) -> Net:
    """On the meta device first: no memory is taken for what the file does not hold."""
    try:
        tensors = safetensors.torch.load(data)
        with torch.device("meta"):
            net = build()
        net.load_state_dict(tensors, assign=True)
        if any(buffer.is_meta for buffer in net.buffers()):  # those that are not saved, but made
            net = build()
            net.load_state_dict(tensors)
    except (safetensors.SafetensorError, RuntimeError) as error:
        what = f"holds other weights than the architecture ({str(error).splitlines()[0]})"
        raise VerificationError("bundle-damaged", what, where=str(path)) from None
    except InvalidError as error:
        raise VerificationError("bundle-damaged", error.what, where=str(path)) from None
    return net


def _backbone(blueprint: dict[str, Any], contents: Mapping[str, bytes], folder: Path) -> Backbone:
    name = FROZEN[blueprint["modality"]]
    return _filled(lambda: pretrained.build(blueprint), contents[name], folder / name)


def _vectors(net: Backbone, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[Any] | None]:
    """One vector for each sample that is there."""
    found = iter(embedding.vectors(net, [array for array in arrays if array is not None]))
    return [None if array is None else next(found) for array in arrays]


def _serialised(net: nn.Module) -> bytes:
    """Safetensors. Each tensor is copied: two names of one are no matter."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    data: bytes = safetensors.torch.save(weights)
    return data
