"""A bundle whose picture, text and sound go through small frozen backbones; nothing of it is trained."""

from pathlib import Path

import tiny_bundle
import tiny_weights
import torch

from mmpipe.features import text
from mmpipe.model import pretrained
from mmpipe.model.checkpoint import save_bundle
from mmpipe.model.network import build_model

VIT = {
    "kind": "transformers",
    "modality": "image",
    "width": 16,
    "config": tiny_weights.VIT,
    "mean": [127.0] * 3,
    "deviation": [128.0] * 3,
}
BACKBONES = {"audio": tiny_weights.WAVE, "image": VIT, "text": tiny_weights.TEXT}
FACTS = {
    "audio": {
        "dtype": "float32",
        "shape": [-1],
        "kind": "wave",
        "sample_rate": 8000,
        "max_duration_s": 0.25,
        "hop_length": 128,
    },
    "image": {"dtype": "uint8", "shape": [16, 16, 3]},
    "text": {"dtype": "int32", "shape": [-1], "max_tokens": 16},
}


def write(
    folder: Path, modalities: tuple[str, ...] = ("audio", "image", "text"), *, task: str = "classify"
) -> None:
    """The bundle, at `folder`. `task`: one that fuses, or `answer`."""
    width, labels, facts = tiny_bundle.TASKS[task]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = text.fit(tiny_bundle.WORDS, vocab_size=300, lowercase=True)
    architecture = {"modalities": list(modalities), "classes": width, "dim": 8, "dropout": 0.1}
    architecture |= {"task": "answer", "writer": {"tokens": 4}} if task == "answer" else {}
    architecture |= dict.fromkeys(modalities, "vector") | {"vocab_size": text.vocab_size(tokenizer)}
    architecture["backbones"] = {m: BACKBONES[m] for m in modalities}
    network = build_model(**architecture)
    backbones = {m: pretrained.build(BACKBONES[m]) for m in modalities}
    for net in (network, *backbones.values()):
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
    settings = {"audio": {"kind": "wave", "max_duration_s": 0.25}, "image": {}, "text": {}}
    save_bundle(
        folder,
        network.eval(),
        config={
            "labels": labels,
            "task": task,
            "decoding": facts,
            "temperature": 1.5,
            "preprocessing": {m: tiny_bundle.SETTINGS[m] | settings[m] for m in modalities},
            "features": {m: FACTS[m] for m in modalities},
        },
        architecture=architecture,
        metrics={},
        tokenizer=tokenizer if "text" in modalities else None,
        backbones=backbones,
    )
