"""Small folders of many families, as Transformers and timm save them: a picture shows through, untrained."""

from pathlib import Path

import tiny_weights
import torch

SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
VISION = {**SMALL, "image_size": 64, "patch_size": 32}
WORDS = {**SMALL, "vocab_size": 300, "max_position_embeddings": 32}
IMAGES = {
    "clip": {"model_type": "clip", "vision_config": VISION, "text_config": WORDS, "projection_dim": 8},
    "convnext": {"model_type": "convnext", "hidden_sizes": [4, 8, 12, 20], "depths": [1, 1, 1, 1]},
    "efficientnet": {
        "model_type": "efficientnet",
        "hidden_dim": 320,
        "width_coefficient": 0.25,
        "num_block_repeats": [1] * 7,
        "depth_coefficient": 1.0,
    },
    "mobilenet_v1": {"model_type": "mobilenet_v1", "depth_multiplier": 0.05},
    "mobilenet_v2": {"model_type": "mobilenet_v2", "depth_multiplier": 0.05, "finegrained_output": False},
    "mobilevit": {
        "model_type": "mobilevit",
        "hidden_sizes": [8, 12, 16],
        "neck_hidden_sizes": [4, 8, 8, 8, 12, 16, 40],
        "num_attention_heads": 2,
        "expand_ratio": 1.0,
    },
    "mobilevitv2": {
        "model_type": "mobilevitv2",
        "width_multiplier": 0.125,
        "n_attn_blocks": [1, 1, 1],
    },
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12, 16, 24],
        "depths": [1] * 4,
    },
    "siglip": {"model_type": "siglip", "vision_config": VISION, "text_config": WORDS},
    "swin": {
        "model_type": "swin",
        "image_size": 64,
        "patch_size": 8,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
}
"""Name → config; their own preprocessing is that of `PIXELS`."""
TEXTS = {
    "clip": IMAGES["clip"],
    "distilbert": {
        "model_type": "distilbert",
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 24,
        "vocab_size": 300,
        "max_position_embeddings": 32,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 32,
        "vocab_size": 300,
    },
    "siglip": IMAGES["siglip"],
}
PIXELS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.25], "rescale_factor": 1 / 255}
WIDTHS = {"resnet": 24, "convnext": 20, "clip": 16, "siglip": 16, "gpt2": 16, "distilbert": 16, "swin": 16}
"""Those that a config says; the others follow from the network."""


def timm(folder: Path, name: str = "test_resnet", **own) -> Path:
    """A network of timm's, saved by timm with its head."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, num_classes=5, **own)
    side = net.pretrained_cfg["input_size"][-1] if not own else own["img_size"]
    _settled(net, lambda x: net(x), side)
    save_for_hf(net, folder, safe_serialization=True)
    return folder


def transformers(folder: Path, config) -> Path:
    """A network of Transformers', as its own code saves it."""
    import transformers

    torch.manual_seed(0)
    net = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    if any(isinstance(part, torch.nn.BatchNorm2d) for part in net.modules()):
        _settled(net, lambda x: net(pixel_values=x), 64)
    net.save_pretrained(folder)
    return tiny_weights.describe(folder, preprocessor_config=PIXELS)


def _settled(net, run, side: int) -> None:
    """As if trained: drawn weights without moments would make every layer fainter than the last."""
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
            torch.nn.init.ones_(part.weight)
        elif isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    with torch.no_grad():
        net.train()
        run(torch.randn(8, 3, side, side))
    net.eval()
