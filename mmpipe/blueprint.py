"""What a pretrained backbone is, read from the files of its weights: JSON that a bundle can hold

`kind`: `efficientnet_lite0` or `transformers`. `modality`. `width`: size C of its vectors.
Of images: `mean` and `deviation`, three numbers each in 0 … 255. Of texts: `pooling` (`mean` or `cls`) and
`unit`, whether vectors are scaled to length 1. Of audio: `sample_rate`, and `standardize`, whether each
recording is brought to mean 0 and deviation 1. Of transformers: `config`, as Transformers names its keys.
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
STEP = 16
"""Texts are padded to a multiple of this at the most."""
WIDTHS = ("hidden_size", "d_model", "dim", "hidden_sizes")
Tree = dict[str, Any]


def of(modality: str, weights: Weights) -> Tree:
    """The blueprint. Raises InvalidError `weights-format` for weights that no backbone here can read."""
    config = weights.json(CONFIG)
    if modality == "image" and (weights.pickled or config.get("architecture") in LITE):
        return _lite(config)
    if "architecture" in config and "model_type" not in config:
        what = (
            f"is timm's {config['architecture']}; of timm's models, {' and '.join(sorted(LITE))} can be read"
        )
        raise InvalidError("weights-format", what, where=weights.source)
    if "model_type" not in config:
        what = f"has no {CONFIG} that names a model_type"
        raise InvalidError("weights-format", what, where=weights.source)
    if config.get("is_encoder_decoder"):
        what = f"is a {config['model_type']} of encoder and decoder; only encoders can be read"
        raise InvalidError("weights-format", what, where=weights.source)
    kept = {key: value for key, value in config.items() if key not in LEFT_OUT}
    made = {"kind": "transformers", "modality": modality, "width": _width(config, weights), "config": kept}
    return made | {"audio": _audio, "image": _image, "text": _text}[modality](weights)


def _lite(config: Tree) -> Tree:
    """TensorFlow's release takes (x - 127) / 128; a timm folder says what its weights take."""
    told = config.get("pretrained_cfg", {})
    mean = [255 * share for share in told["mean"]] if "mean" in told else [127.0] * 3
    deviation = [255 * share for share in told["std"]] if "std" in told else [128.0] * 3
    made: Tree = {"kind": "efficientnet_lite0", "modality": "image", "width": 1280}
    return made | {"mean": mean, "deviation": deviation}


def _width(config: Tree, weights: Weights) -> int:
    for name in WIDTHS:
        if name in config:
            value = config[name]
            return int(value[-1] if isinstance(value, list) else value)
    what = f"has none of {', '.join(WIDTHS)} in its {CONFIG}"
    raise InvalidError("weights-format", what, where=weights.source)


def _image(weights: Weights) -> Tree:
    told = _needed(weights, "preprocessor_config.json", ("image_mean", "image_std"))
    scale = 1 / told.get("rescale_factor", 1 / 255)
    return {
        "mean": [scale * share for share in told["image_mean"]],
        "deviation": [scale * share for share in told["image_std"]],
    }


def _text(weights: Weights) -> Tree:
    """Sentence-transformers' own notes, where they are there; the mean over tokens otherwise."""
    modules = [one.get("type", "").rpartition(".")[2] for one in weights.json("modules.json") or []]
    first = weights.json("1_Pooling/config.json").get("pooling_mode_cls_token", False)
    return {"pooling": "cls" if first else "mean", "unit": "Normalize" in modules}


def _audio(weights: Weights) -> Tree:
    """Of those that read the wave itself."""
    told = _needed(weights, "preprocessor_config.json", ("sampling_rate",))
    if (kind := told.get("feature_extractor_type")) != "Wav2Vec2FeatureExtractor":
        what = f"takes what {kind} makes of a recording; only models that read the wave itself can be read"
        raise InvalidError("weights-format", what, where=weights.source)
    return {"sample_rate": int(told["sampling_rate"]), "standardize": bool(told.get("do_normalize", True))}


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
    if made["modality"] == "image" and isinstance(side := config.get("image_size"), int):
        return ("size", side, "is another side than the weights know") if settings["size"] != side else None
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
