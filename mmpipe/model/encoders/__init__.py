"""Encoders by modality and name: each a class that turns a feature batch into a sequence and a pooled vector.

Each encoder normalises its own input by statistics of the train split, which it keeps as buffers, and never
looks past a sample's length: the answer does not depend on how far the batch was padded.
"""

from collections.abc import Callable

from torch import nn

from mmpipe.model.encoders.audio import AudioCNN, AudioCRNN
from mmpipe.model.encoders.image import WHITE, ImageCNN, ImageResNet
from mmpipe.model.encoders.parts import Encoded, Normalize, length_mask
from mmpipe.model.encoders.text import TextGRU, TextTransformer

__all__ = [
    "ENCODERS",
    "WHITE",
    "AudioCNN",
    "AudioCRNN",
    "Encoded",
    "ImageCNN",
    "ImageResNet",
    "Normalize",
    "TextGRU",
    "TextTransformer",
    "length_mask",
]

ENCODERS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "audio": {"cnn": AudioCNN, "crnn": AudioCRNN},
    "image": {"cnn": ImageCNN, "resnet": ImageResNet},
    "text": {"gru": TextGRU, "transformer": TextTransformer},
}
"""Modality → name → class. One more encoder is a class, an entry here and in `params.Model`, and a test."""
