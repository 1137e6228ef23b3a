"""What a bundle's config.json must say for its model to be built, and whether it agrees with itself."""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mmpipe.bundle import TOKENIZER
from mmpipe.model.fusion import FUSIONS
from mmpipe.tasks import task
from mmpipe.tasks.task import Decoding

Arrays = dict[str, NDArray[np.int32]]


def _known_fusion(name: str) -> str:
    if name not in FUSIONS:
        raise ValueError(f"no fusion is called {name!r}")
    return name


class Architecture(BaseModel):
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
    image: Literal["cnn", "resnet", "vector", "pretrained"] = "cnn"
    text: Literal["gru", "transformer", "words", "vector", "pretrained"] = "gru"
    audio: Literal["cnn", "crnn", "vector", "pretrained"] = "cnn"
    backbones: dict[str, dict[str, Any]] = Field(default_factory=dict)
    writer: dict[str, Any] | None = None

    def frozen(self) -> list[str]:
        """The modalities whose vectors a backbone beside the network makes."""
        return [m for m in self.modalities if getattr(self, m) == "vector"]

    def contradiction(self) -> str:
        """What of the backbones does not go together, or nothing."""
        wanted = {m for m in self.modalities if getattr(self, m) in ("vector", "pretrained")}
        if wanted != set(self.backbones):
            return f"backbones of {', '.join(sorted(self.backbones)) or 'nothing'} for other encoders"
        for modality, made in self.backbones.items():
            if made.get("modality") != modality or type(made.get("width")) is not int or made["width"] < 1:
                return f"backbones.{modality} of something else"
        return ""


class _Feature(BaseModel):
    """One modality's feature table; it may say more."""

    model_config = ConfigDict(strict=True, extra="allow")

    shape: list[int]


class Config(BaseModel):
    """What loading needs of config.json; it may say more."""

    model_config = ConfigDict(strict=True)

    architecture: Architecture
    labels: list[str]
    temperature: float = Field(gt=0)
    decoding: dict[str, Any] = {}
    preprocessing: dict[str, dict[str, Any]]
    features: dict[str, _Feature]

    def decoder(self, arrays: Arrays) -> Decoding:
        """What turns outputs into answers."""
        return Decoding(self.labels, self.temperature, self.decoding, arrays)

    def contradiction(self, arrays: Arrays, *, tokenizer: bool) -> str:
        """What in it does not go together, or nothing; `tokenizer`: whether the bundle has one."""
        model, modalities = self.architecture, self.architecture.modalities
        if model.task not in task.names():
            return f"the unknown task {model.task!r}"
        if odd := task.load(model.task).contradiction(self.decoder(arrays), outputs=model.classes):
            return odd
        for section in ("preprocessing", "features"):
            if lacking := sorted(set(modalities) - set(getattr(self, section))):
                return f"a model of {lacking[0]} without {section}.{lacking[0]}"
        ranks = {"image": 3, "text": 1, "audio": 1 if model.audio in ("vector", "pretrained") else 2}
        for modality in modalities:
            shape = self.features[modality].shape
            if len(shape) != ranks[modality]:
                return f"features.{modality} of shape {shape}"
        if "audio" in modalities and ranks["audio"] == 2 and self.features["audio"].shape[1] != model.n_mels:
            return f"features.audio of shape {self.features['audio'].shape} for {model.n_mels} values a frame"
        if task.load(model.task).writes != (model.writer is not None):
            return f"{'no' if model.writer is None else 'a'} writer for the task {model.task}"
        if model.fusion == "attention" and model.dim % model.heads:
            return f"{model.heads} attention heads for {model.dim} dimensions"
        if ("text" in modalities) != tokenizer:
            return f"{'no' if not tokenizer else 'a'} {TOKENIZER} for a model of {', '.join(modalities)}"
        return model.contradiction()
