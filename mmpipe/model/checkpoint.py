"""A bundle and the network in it: weights as safetensors, the rest as JSON; never unpickles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mmpipe import batches, bundle, files
from mmpipe.bundle import CONFIG, METRICS, TOKENIZER, WEIGHTS
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.network import Network, build_model
from mmpipe.targets import Coding
from mmpipe.tasks import task
from mmpipe.tasks.task import Decoding, Task

FORMAT = 1


def _known_fusion(name: str) -> str:
    if name not in FUSIONS:
        raise ValueError(f"no fusion is called {name!r}")
    return name


class _Architecture(BaseModel):
    """The arguments of `build_model`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    modalities: list[Literal["audio", "image", "text"]] = Field(min_length=1)
    classes: int = Field(ge=1)
    dim: int = Field(ge=1)
    dropout: float
    vocab_size: int = 0
    n_mels: int = 0
    fusion: Annotated[str, AfterValidator(_known_fusion)] = "concat"
    image_flip: bool = True
    task: str = "classify"
    rank: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)


class _Feature(BaseModel):
    """One modality's feature table; it may say more."""

    model_config = ConfigDict(strict=True, extra="allow")

    shape: list[int]


class _Config(BaseModel):
    """What loading needs of config.json; it may say more."""

    model_config = ConfigDict(strict=True)

    architecture: _Architecture
    labels: list[str]
    temperature: float = Field(gt=0)
    decoding: dict[str, Any] = {}
    preprocessing: dict[str, dict[str, Any]]
    features: dict[str, _Feature]

    @property
    def decoder(self) -> Decoding:
        """What turns outputs into answers."""
        return Decoding(self.labels, self.temperature, self.decoding)

    def contradiction(self, *, tokenizer: bool) -> str:
        """What in it does not go together, or nothing; `tokenizer`: whether the bundle has one."""
        model, modalities = self.architecture, self.architecture.modalities
        if model.task not in task.names():
            return f"the unknown task {model.task!r}"
        if odd := task.load(model.task).contradiction(self.decoder, outputs=model.classes):
            return odd
        for section in ("preprocessing", "features"):
            if lacking := sorted(set(modalities) - set(getattr(self, section))):
                return f"a model of {lacking[0]} without {section}.{lacking[0]}"
        for modality in modalities:
            shape = self.features[modality].shape
            if len(shape) != (3 if modality == "image" else {"audio": 2, "text": 1}[modality]):
                return f"features.{modality} of shape {shape}"
        if "audio" in modalities and self.features["audio"].shape[1] != model.n_mels:
            return f"features.audio of shape {self.features['audio'].shape} for {model.n_mels} mel bands"
        if model.fusion == "attention" and model.dim % model.heads:
            return f"{model.heads} attention heads for {model.dim} dimensions"
        if ("text" in modalities) != tokenizer:
            return f"{'no' if not tokenizer else 'a'} {TOKENIZER} for a model of {', '.join(modalities)}"
        return ""


@dataclass(frozen=True)
class Bundle:
    """A verified model in evaluation mode, with all that prediction needs.

    `preprocessing`: {modality: keyword arguments of its extractor}. `features`: {modality: dtype, shape and
    facts of its feature table}. `config`: all of config.json. `digest`: sha256 over the whole bundle.
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
        facts = {
            name: self.decoding.facts[name] for name in ("mean", "deviation") if name in self.decoding.facts
        }
        return Coding(self.task.kind, tuple(self.labels), **facts)

    def dataset(
        self, ids: Sequence[str], arrays: Mapping[str, Sequence[NDArray[Any] | None]]
    ) -> batches.Dataset:
        """Features just extracted, None where absent → a dataset whose batches the model takes."""
        shapes = {m: self.features[m]["shape"] for m in self.modalities}
        return batches.from_arrays(ids, {m: arrays[m] for m in self.modalities if m in arrays}, shapes)


def save_bundle(
    folder: Path,
    model: Network,
    *,
    config: Mapping[str, Any],
    architecture: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tokenizer: str | None,
) -> str:
    """Write the bundle and return its digest; `folder` is replaced whole, at once.

    `config` holds at least labels, temperature, decoding, preprocessing and features.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    contents = {
        WEIGHTS: safetensors.torch.save(weights),
        CONFIG: files.canonical_json(
            {**config, "format": FORMAT, "architecture": dict(architecture)}
        ).encode(),
        METRICS: files.canonical_json(metrics).encode(),
    }
    if tokenizer is not None:
        contents[TOKENIZER] = tokenizer.encode()
    return bundle.write(folder, contents)


def load_bundle(folder: Path, *, device: torch.device | None = None) -> Bundle:
    """Verify every byte, then build the model.

    Raises NotFoundError `bundle-missing`, VerificationError `bundle-damaged` naming the file, or InvalidError
    `bundle-format` for another version or a pickle.
    """
    whole = bundle.read(folder)
    contents = whole.files
    config = bundle.parse_object(contents[CONFIG], str(folder / CONFIG))
    checked = _check(config, folder / CONFIG, tokenizer=TOKENIZER in contents)
    return Bundle(
        model=_build(checked.architecture, contents[WEIGHTS], folder / WEIGHTS).to(device).eval(),
        decoding=checked.decoder,
        preprocessing=checked.preprocessing,
        features={m: feature.model_dump() for m, feature in checked.features.items()},
        tokenizer=contents[TOKENIZER].decode() if TOKENIZER in contents else None,
        metrics=bundle.parse_object(contents[METRICS], str(folder / METRICS)),
        config=config,
        digest=whole.digest,
        origin=whole.origin,
    )


def _check(config: dict[str, Any], path: Path, *, tokenizer: bool) -> _Config:
    if config.get("format") != FORMAT:
        what = f"has format {config.get('format')!r}, this version reads {FORMAT}"
        raise InvalidError("bundle-format", what, where=str(path))
    try:
        checked = _Config.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"is not valid at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VerificationError("bundle-damaged", what, where=str(path)) from None
    if odd := checked.contradiction(tokenizer=tokenizer):
        raise VerificationError("bundle-damaged", f"contradicts itself: {odd}", where=str(path))
    return checked


def _build(architecture: _Architecture, data: bytes, path: Path) -> Network:
    """On the meta device first: no memory is taken for what the file does not hold."""
    try:
        weights = safetensors.torch.load(data)
        with torch.device("meta"):
            model = build_model(**architecture.model_dump())
        model.load_state_dict(weights, assign=True)
    except (safetensors.SafetensorError, RuntimeError) as error:
        what = f"holds other weights than the architecture ({str(error).splitlines()[0]})"
        raise VerificationError("bundle-damaged", what, where=str(path)) from None
    return model
