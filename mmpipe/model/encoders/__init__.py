"""Encoders by modality and name: each a class that turns a feature batch into a sequence and a pooled vector.

Each encoder normalises its own input by statistics of the train split, which it keeps as buffers, and never
looks past a sample's length: the answer does not depend on how far the batch was padded.
"""

from collections.abc import Callable

from torch import nn

from mmpipe.model.encoders.audio import AudioCNN, AudioCRNN
from mmpipe.model.encoders.image import WHITE, ImageCNN, ImageResNet
from mmpipe.model.encoders.pretrained import FineTuned, Vector
from mmpipe.model.encoders.text import TextGRU, TextTransformer, TextWords
from mmpipe.model.parts import Encoded, Normalize, length_mask

__all__ = [
    "ENCODERS",
    "WHITE",
    "AudioCNN",
    "AudioCRNN",
    "Encoded",
    "FineTuned",
    "ImageCNN",
    "ImageResNet",
    "Normalize",
    "TextGRU",
    "TextTransformer",
    "TextWords",
    "Vector",
    "length_mask",
]

ENCODERS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "audio": {"cnn": AudioCNN, "crnn": AudioCRNN, "vector": Vector, "pretrained": FineTuned},
    "image": {"cnn": ImageCNN, "resnet": ImageResNet, "vector": Vector, "pretrained": FineTuned},
    "text": {
        "gru": TextGRU,
        "transformer": TextTransformer,
        "words": TextWords,
        "vector": Vector,
        "pretrained": FineTuned,
    },
}
"""Modality → name → class. One more encoder is a class, an entry here and in `params.Model`, and a test."""
