"""What a pretrained backbone is, read from the files of its weights: JSON that a bundle can hold

`kind`: `efficientnet_lite0`, `timm` or `transformers`. `modality`. `width`: of its vectors, `sequence_width`
of the steps of its sequence where that is another; `model.width` measures both.
Of images: `mean` and `deviation`, three numbers each in 0 … 255, and `flip`, whether blue comes first. Of
texts: `pooling` (`mean` or `cls`) and `unit`, whether vectors are scaled to length 1. Of audio:
`sample_rate`, and `standardize`, whether each recording is brought to mean 0 and deviation 1. Of timm and
transformers: `config`, as these name its keys.
"""

from typing import Any

from mmpipe.errors import InvalidError
from mmpipe.weights import CONFIG, Weights

LITE = frozenset({"efficientnet_lite0", "tf_efficientnet_lite0"})
"""Architectures by timm's names that `model.efficientnet` is."""
LEFT_OUT = frozenset(
    {"_name_or_path", "auto_map", "dtype", "quantization_config", "torch_dtype", "transformers_version"}
)
"""Of config.json: code of strangers, or what says nothing of the network in float32."""
WAVES = frozenset({"data2vec-audio", "hubert", "wav2vec2", "wavlm"})
"""Families of sound models, by `model_type`, whose recordings may have several lengths in a batch."""
STEP = 16
"""Texts are padded to a multiple of this at the most."""
IMAGENET = [255 * share for share in (0.485, 0.456, 0.406)], [255 * share for share in (0.229, 0.224, 0.225)]
"""Mean and deviation of its pictures: what timm takes where a folder does not say."""
PROCESSOR = "preprocessor_config.json"
OTHER = "name weights of a model that docs/pretrained.md lists"
Tree = dict[str, Any]


def of(modality: str, weights: Weights) -> Tree:
    """The blueprint but for its widths. Raises InvalidError `weights-format` for what cannot be read here."""
    config = weights.json(CONFIG)
    if modality == "image" and (weights.pickled or config.get("architecture") in LITE):
        return _lite(config)
    if "architecture" in config and config.get("model_type", "timm_wrapper") == "timm_wrapper":
        return _timm(modality, config, weights)
    if "model_type" not in config:
        what = f"has no {CONFIG} that names a model_type or, of timm, an architecture"
        raise InvalidError("weights-format", what, where=weights.source)
    if config.get("is_encoder_decoder"):
        what = f"is a {config['model_type']} of encoder and decoder; only encoders can be read"
        raise InvalidError("weights-format", what, where=weights.source, fix=OTHER)
    tower = _tower(modality, config)
    kept = {key: value for key, value in tower.items() if key not in LEFT_OUT}
    made = {"kind": "transformers", "modality": modality, "config": kept}
    return made | {"audio": _audio, "image": _image, "text": _text}[modality](weights)


def _tower(modality: str, config: Tree) -> Tree:
    """Of a model of pictures and texts (CLIP, SigLIP, …) the part for one, as Transformers names it."""
    name = {"image": "vision", "text": "text"}.get(modality, "audio")
    part = config.get(f"{name}_config")
    if not isinstance(part, dict):
        return config
    return {"model_type": f"{config['model_type']}_{name}_model", **part}


def _lite(config: Tree) -> Tree:
    """TensorFlow's release takes (x - 127) / 128; a timm folder says what its weights take."""
    made: Tree = {"kind": "efficientnet_lite0", "modality": "image"}
    return made | _scale(config.get("pretrained_cfg") or {}, ([127.0] * 3, [128.0] * 3))


def _timm(modality: str, config: Tree, weights: Weights) -> Tree:
    """Old folders have one level of keys, new ones what was trained under `pretrained_cfg`."""
    if modality != "image":
        what = f"is timm's {config['architecture']}, a network of pictures"
        raise InvalidError("weights-format", what, where=weights.source, fix=OTHER)
    told, own = config.get("pretrained_cfg") or config, config.get("model_args") or {}
    if not isinstance(told, dict) or not isinstance(own, dict):
        what = f"has a {CONFIG} whose pretrained_cfg or model_args is no table of keys"
        raise InvalidError("weights-format", what, where=weights.source)
    channels = own.get("in_chans") or (told.get("input_size") or [3])[0]
    if channels != 3:
        what = f"is of pictures with {channels} channels, only those with 3 can be read"
        raise InvalidError("weights-format", what, where=weights.source, fix=OTHER)
    shape = {key: told[key] for key in ("fixed_input_size", "input_size") if key in told}
    kept = {"architecture": config["architecture"], "model_args": own, "pretrained_cfg": shape}
    return {"kind": "timm", "modality": "image", "config": kept} | _scale(told, IMAGENET)


def _scale(told: Tree, usual: tuple[list[float], list[float]]) -> Tree:
    """As timm tells it, in 0 … 1, or as is usual, in 0 … 255."""
    mean = [255 * share for share in told["mean"]] if "mean" in told else usual[0]
    deviation = [255 * share for share in told["std"]] if "std" in told else usual[1]
    return {"mean": mean, "deviation": deviation}


def _image(weights: Weights) -> Tree:
    """As Transformers' image processor scales: that of MobileViT to 0 … 1 only, in blue, green, red."""
    told: Tree = weights.json(PROCESSOR)
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type"))
    scale = 1 / told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    if kind.startswith("MobileViT"):
        made: Tree = {"mean": [0.0] * 3, "deviation": [scale] * 3}
        return made | ({"flip": True} if told.get("do_flip_channel_order", True) else {})
    if not told.get("do_normalize", True):
        mean, deviation = [0.0] * 3, [1.0] * 3
    else:
        told = _needed(weights, PROCESSOR, ("image_mean", "image_std"))
        mean, deviation = told["image_mean"], told["image_std"]
    efficientnet = kind.startswith("EfficientNet")  # which is divided twice, as it was trained
    if efficientnet and told.get("rescale_offset", False):
        mean = [share + 1 for share in mean]
    if efficientnet and told.get("include_top", True):
        told = _needed(weights, PROCESSOR, ("image_std",))
        deviation = [share * told["image_std"][place] for place, share in enumerate(deviation)]
    return {"mean": [scale * share for share in mean], "deviation": [scale * share for share in deviation]}


def _text(weights: Weights) -> Tree:
    """Sentence-transformers' own notes, where they are there; the mean over tokens otherwise."""
    modules = [one.get("type", "").rpartition(".")[2] for one in weights.json("modules.json") or []]
    first = weights.json("1_Pooling/config.json").get("pooling_mode_cls_token", False)
    return {"pooling": "cls" if first else "mean", "unit": "Normalize" in modules}


def _audio(weights: Weights) -> Tree:
    """Of those that read the wave itself."""
    told = _needed(weights, PROCESSOR, ("sampling_rate",))
    if (kind := told.get("feature_extractor_type")) != "Wav2Vec2FeatureExtractor":
        what = f"takes what {kind} makes of a recording; only models that read the wave itself can be read"
        raise InvalidError("weights-format", what, where=weights.source)
    return {"sample_rate": int(told["sampling_rate"]), "standardize": bool(told.get("do_normalize", True))}


def learns(made: Tree) -> bool:
    """Whether `train` can adapt a backbone: of sound, one that reads a batch of recordings exactly."""
    config = made.get("config", {})
    known = config.get("model_type") in WAVES and not config.get("add_adapter")
    return made["modality"] != "audio" or known


def _needed(weights: Weights, name: str, keys: tuple[str, ...]) -> Tree:
    told: Tree = weights.json(name)
    if lacking := [key for key in keys if key not in told]:
        raise InvalidError("weights-format", f"has no {lacking[0]} in {name}", where=weights.source)
    return told


def misfit(made: Tree, settings: Tree) -> tuple[str, int, str] | None:
    """A parameter that the backbone cannot work with, the value it needs, and why, or None.

    `settings`: those of the modality's section.
    """
    config = made.get("config", {})
    if made["modality"] == "audio" and settings["sample_rate"] != made["sample_rate"]:
        return (
            "sample_rate",
            made["sample_rate"],
            f"is {settings['sample_rate']}, and the weights know another",
        )
    if made["modality"] == "text" and isinstance(most := config.get("max_position_embeddings"), int):
        if "roberta" in config["model_type"] or config["model_type"] == "camembert":
            most -= int(config.get("pad_token_id") or 0) + 1  # their positions begin behind the padding's
        most -= most % STEP
        return (
            ("max_tokens", most, "is more than the weights can take")
            if settings["max_tokens"] > most
            else None
        )
    return None


def side(made: Tree) -> int | None:
    """Of the square pictures that the weights were trained on, px, where they say so."""
    config = made.get("config", {})
    size = config.get("pretrained_cfg", {}).get("input_size") or config.get("image_size")
    last = size[-1] if isinstance(size, list) and size else size
    return last if isinstance(last, int) else None
