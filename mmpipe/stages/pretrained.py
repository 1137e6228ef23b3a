"""What `params.yaml` says of pretrained weights, brought to the stages that use them."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from mmpipe import blueprint, weights
from mmpipe.errors import InvalidError
from mmpipe.features.extractor import Frozen

Tree = dict[str, Any]
WIDTH = "mmpipe.model.width"


def settings(modality: str, section: Any) -> Tree:
    """The section's keyword arguments of the extractor. Weights of sound read the wave.

    It is kept in 16 bits where every epoch reads it.
    """
    found: Tree = section.model_dump(mode="json", exclude={"pretrained", "frozen"})
    if modality == "audio" and section.pretrained:
        found["kind"] = "wave" if section.frozen else "pcm"
    return found


def frozen(modality: str, section: Any) -> Frozen | None:
    """The backbone that `extract` runs; of one of sound that `train` runs, only whether the wave suits it.

    Raises as `weights.find` and `blueprint.of` do, and InvalidError for parameters that they do not fit.
    """
    if section.pretrained is None or not (section.frozen or modality == "audio"):
        return None
    found = weights.find(section.pretrained)
    made = _blueprint(modality, section, found)
    return Frozen(found.source, found.sha256, made) if section.frozen else None


def tokenizer(section: Any) -> str | None:
    """The tokenizer that belongs to the weights of texts, as JSON; None without weights."""
    if section.pretrained is None:
        return None
    found = weights.find(section.pretrained)
    if not isinstance(found.json("tokenizer.json").get("model"), dict):
        raise InvalidError("weights-format", "has no tokenizer.json of a fast tokenizer", where=found.source)
    return found.files["tokenizer.json"].read_text("utf-8")


def encoder(params: Any, modality: str) -> str:
    """The encoder's name in the network."""
    name: str = getattr(params.model, modality)
    if name != "pretrained":
        return name
    return "vector" if getattr(params, modality).frozen else "pretrained"


def blueprints(params: Any, facts: Mapping[str, Mapping[str, Any]]) -> Tree:
    """{modality: blueprint} of the network's backbones. `facts`: of the feature tables."""
    found: Tree = {}
    for modality, told in facts.items():
        name, section = encoder(params, modality), getattr(params, modality)
        if name == "vector":
            found[modality] = told["blueprint"]
        elif name == "pretrained":
            found[modality] = _blueprint(modality, section, weights.find(section.pretrained))
    return found


def identities(params: Any, modalities: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """{modality: where its weights are from, and which they are}, of those with weights."""
    sources = {m: getattr(params, m).pretrained for m in modalities if encoder(params, m) != "none"}
    used = {m: source for m, source in sources.items() if source is not None}
    return {m: {"source": source, "identity": weights.identity(source)} for m, source in used.items()}


def _blueprint(modality: str, section: Any, found: weights.Weights) -> Tree:
    """Measured. What measures is named, not imported: who has no weights does not load torch for it."""
    measuring = importlib.import_module(WIDTH)
    made = measuring.completed(blueprint.of(modality, found), source=found.source)
    if misfit := blueprint.misfit(made, section.model_dump()):
        raise _unfit(modality, found.source, *misfit)
    if not section.frozen and not blueprint.learns(made):
        raise _unlearnt(modality, found.source, made["config"]["model_type"])
    size, wanted = getattr(section, "size", 0), blueprint.side(made)
    try:
        measured: Tree = measuring.measured(made, source=found.source, side=size)
    except InvalidError:
        if wanted in (None, size):
            raise
        measuring.measured(made, source=found.source, side=wanted)
        raise _unfit(
            modality, found.source, "size", wanted, "is another side than the weights know"
        ) from None
    return measured


def _unfit(modality: str, source: str, key: str, value: int | None, why: str) -> InvalidError:
    fix = f"set {modality}.{key}: {value} in params.yaml"
    return InvalidError("params", f"{modality}.{key} {why}", where=source, fix=fix)


def _unlearnt(modality: str, source: str, kind: str) -> InvalidError:
    kinds = ", ".join(sorted(blueprint.WAVES))
    what = f"of sound, train can adapt {kinds} without an adapter, and no {kind}"
    return InvalidError("params", what, where=source, fix=f"set {modality}.frozen: true in params.yaml")
