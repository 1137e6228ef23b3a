"""The bundle: one folder that is a trained model, and back. safetensors + JSON + sha256; never unpickles.

::

    model.safetensors   weights and normalisation moments
    config.json         architecture, labels, task, preprocessing, temperature, where it came from
    tokenizer.json      where the model reads text
    metrics.json        of the validation split
    manifest.json       path, size and sha256 of each of these, and a digest of that list; written last
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from mmpipe import batches, files
from mmpipe.errors import InvalidError, NotFoundError, VerificationError
from mmpipe.model.network import Network, build_model
from mmpipe.tasks import classify

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
METRICS = "metrics.json"
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2", ".pth")


class _Architecture(BaseModel):
    """The arguments of `build_model`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    modalities: list[Literal["audio", "image", "text"]] = Field(min_length=1)
    classes: int = Field(ge=1)
    dim: int = Field(ge=1)
    dropout: float
    vocab_size: int = 0
    n_mels: int = 0
    fusion: Literal["concat"] = "concat"
    image_flip: bool = True


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
    preprocessing: dict[str, dict[str, Any]]
    features: dict[str, _Feature]

    def contradiction(self, *, tokenizer: bool) -> str:
        """What in it does not go together, or nothing; `tokenizer`: whether the bundle has one."""
        model, modalities = self.architecture, self.architecture.modalities
        if len(self.labels) != model.classes or len(set(self.labels)) != model.classes:
            return f"{len(set(self.labels))} labels for {model.classes} classes"
        for section in ("preprocessing", "features"):
            if lacking := sorted(set(modalities) - set(getattr(self, section))):
                return f"a model of {lacking[0]} without {section}.{lacking[0]}"
        for modality in modalities:
            shape = self.features[modality].shape
            if len(shape) != (3 if modality == "image" else {"audio": 2, "text": 1}[modality]):
                return f"features.{modality} of shape {shape}"
        if "audio" in modalities and self.features["audio"].shape[1] != model.n_mels:
            return f"features.audio of shape {self.features['audio'].shape} for {model.n_mels} mel bands"
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
    labels: list[str]
    temperature: float
    preprocessing: dict[str, dict[str, Any]]
    features: dict[str, dict[str, Any]]
    tokenizer: str | None
    metrics: dict[str, Any]
    config: dict[str, Any]
    digest: str

    @property
    def modalities(self) -> list[str]:
        """Those the model was trained with, sorted."""
        return self.model.modalities

    def dataset(
        self, ids: Sequence[str], arrays: Mapping[str, Sequence[NDArray[Any] | None]]
    ) -> batches.Dataset:
        """Features just extracted, None where absent → a dataset whose batches the model takes."""
        shapes = {m: self.features[m]["shape"] for m in self.modalities}
        return batches.from_arrays(ids, {m: arrays[m] for m in self.modalities if m in arrays}, shapes)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated: (B, K) logits → (B, K), rows sum to 1."""
        return classify.probabilities(logits, self.temperature)


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

    `config` holds at least labels, task, temperature, preprocessing and features.
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
    entries = [
        {"path": name, "size": len(data), "sha256": files.sha256(data)}
        for name, data in sorted(contents.items())
    ]
    digest = files.sha256(files.canonical_json(entries).encode())
    contents[MANIFEST] = files.canonical_json({"files": entries, "bundle_sha256": digest}).encode()
    with files.atomic_folder(folder) as fresh:
        for name, data in contents.items():
            files.write_bytes(fresh / name, data)
    return digest


def load_bundle(folder: Path, *, device: torch.device | None = None) -> Bundle:
    """Verify every byte, then build the model.

    Raises NotFoundError `bundle-missing`, VerificationError `bundle-damaged` naming the file, or InvalidError
    `bundle-format` for another version or a pickle.
    """
    contents, digest = _verified(folder)
    config = _object(contents[CONFIG], folder / CONFIG)
    checked = _check(config, folder / CONFIG, tokenizer=TOKENIZER in contents)
    return Bundle(
        model=_build(checked.architecture, contents[WEIGHTS], folder / WEIGHTS).to(device).eval(),
        labels=checked.labels,
        temperature=checked.temperature,
        preprocessing=checked.preprocessing,
        features={m: feature.model_dump() for m, feature in checked.features.items()},
        tokenizer=contents[TOKENIZER].decode() if TOKENIZER in contents else None,
        metrics=_object(contents[METRICS], folder / METRICS),
        config=config,
        digest=digest,
    )


def _verified(folder: Path) -> tuple[dict[str, bytes], str]:
    """The bytes of each file, read once and checked against the manifest; the bundle's digest."""
    _refuse_pickles(folder)
    if not (folder / MANIFEST).is_file():
        raise NotFoundError("bundle-missing", f"is no bundle: it has no {MANIFEST}", where=str(folder))
    entries, digest = _manifest(folder / MANIFEST)
    found = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    if odd := sorted(set(found) ^ {entry["path"] for entry in entries}):
        what = "is not in the manifest" if odd[0] in found else "is missing"
        raise VerificationError("bundle-damaged", what, where=str(folder / odd[0]))
    contents = {entry["path"]: (folder / entry["path"]).read_bytes() for entry in entries}
    for entry in entries:
        data = contents[entry["path"]]
        if len(data) != entry["size"] or files.sha256(data) != entry["sha256"]:
            what = f"has sha256 {files.sha256(data)[:12]}, the manifest says {str(entry['sha256'])[:12]}"
            raise VerificationError("bundle-damaged", what, where=str(folder / entry["path"]))
    return contents, digest


def _refuse_pickles(folder: Path) -> None:
    candidates = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    for path in candidates:
        if path.suffix in PICKLES:
            what = "is a pickled model: loading one can run any code, so it is refused"
            raise InvalidError("bundle-format", what, where=str(path))


def _manifest(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Its bytes must be exactly what its values make, so that no change of it goes unseen."""
    data = path.read_bytes()
    manifest = _object(data, path)
    entries: list[dict[str, Any]] = manifest.get("files", [])
    digest = str(manifest.get("bundle_sha256"))
    whole = (
        manifest.keys() == {"files", "bundle_sha256"}
        and isinstance(entries, list)
        and all(isinstance(entry, dict) and entry.keys() == {"path", "size", "sha256"} for entry in entries)
        and {CONFIG, METRICS, WEIGHTS}
        <= {entry["path"] for entry in entries}
        <= {CONFIG, METRICS, TOKENIZER, WEIGHTS}
        and digest == files.sha256(files.canonical_json(entries).encode())
        and files.canonical_json(manifest).encode() == data
    )
    if not whole:
        raise VerificationError("bundle-damaged", "does not match its own digest", where=str(path))
    return entries, digest


def _object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerificationError("bundle-damaged", f"is no JSON ({error})", where=str(path)) from None
    if not isinstance(value, dict):
        raise VerificationError("bundle-damaged", "is no JSON object", where=str(path))
    return value


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
