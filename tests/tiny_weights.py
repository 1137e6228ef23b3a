"""Small weights as others publish them: a text, a picture and a sound network, untrained, in folders."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

BERT = {
    "model_type": "bert",
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 48,
}
LITE = {
    "kind": "efficientnet_lite0",
    "modality": "image",
    "width": 1280,
    "mean": [127.0] * 3,
    "deviation": [128.0] * 3,
}
TEXT = {
    "kind": "transformers",
    "modality": "text",
    "width": 16,
    "config": BERT,
    "pooling": "mean",
    "unit": True,
}
WAVE = {
    "kind": "transformers",
    "modality": "audio",
    "width": 16,
    "sample_rate": 8000,
    "standardize": True,
    "config": {
        "model_type": "wav2vec2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8, 8],
        "conv_kernel": [10, 8],
        "conv_stride": [5, 4],
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "num_feat_extract_layers": 2,
    },
}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


def describe(folder: Path, **files) -> Path:
    """`name_json=tree` → `name.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tree in files.items():
        (folder / f"{name}.json").write_text(json.dumps(tree))
    return folder


def load(modality: str, source: str, root: Path = Path(), side: int = 16):
    """The backbone of a folder or package."""
    from mmpipe import blueprint, weights
    from mmpipe.model import pretrained, width

    found = weights.find(source, root)
    made = width.measured(blueprint.of(modality, found), source=source, side=side)
    return pretrained.load(made, found)


def publish(folder: Path, config, **files) -> Path:
    """A network of Transformers as its authors save it, with weights that are a function of the config."""
    import transformers

    torch.manual_seed(0)
    net = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    net.save_pretrained(folder)
    return describe(folder, **files)


def text(folder: Path, tokenizer: str) -> Path:
    """BERT with a tokenizer of our own kind."""
    publish(folder, BERT)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


def lite(folder: Path) -> Path:
    """EfficientNet-Lite0 as a timm folder."""
    from mmpipe.model.efficientnet import EfficientNetLite0

    torch.manual_seed(0)
    config = {
        "architecture": "tf_efficientnet_lite0",
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    describe(folder, config=config)
    tensors = EfficientNetLite0().state_dict() | {"classifier.weight": torch.zeros(3, 1280)}
    save_file(tensors, folder / "model.safetensors")
    return folder
