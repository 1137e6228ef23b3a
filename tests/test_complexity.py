"""Multiply-adds against a count by hand."""

import torch
from torch import nn

from mmpipe.model import complexity
from mmpipe.model.network import build_model

FACTS = {"text": {"dtype": "int32", "shape": [-1], "max_tokens": 8}}


def test_a_network_with_every_modality_is_measured_whatever_mode_it_is_in():
    arguments = {"modalities": ["audio", "image", "text"], "classes": 3, "dim": 16, "dropout": 0.5}
    model = build_model(**arguments, n_mels=8, vocab_size=40, image_flip=False)
    facts = {
        **FACTS,
        "image": {"dtype": "uint8", "shape": [16, 16, 3]},
        "audio": {
            "dtype": "float16",
            "shape": [-1, 8],
            "max_duration_s": 1.0,
            "sample_rate": 8000,
            "hop_length": 100,
        },
    }
    found = complexity.measure(model.train(), facts)
    assert model.training
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found == complexity.measure(model.eval(), facts)
    longer = {**facts, "audio": {**facts["audio"], "max_duration_s": 4.0}}
    assert complexity.measure(model, longer)["multiply_adds"] > found["multiply_adds"]


def test_a_linear_layer_is_counted_as_by_hand(monkeypatch):
    class Plain(nn.Module):
        modalities = ("text",)
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 5)

        def forward(self, batch):
            assert batch.inputs["text"].shape[0] == 1 and int(batch.lengths["text"][0]) == 8
            return self.layer(torch.zeros(3, 8))

    assert complexity.measure(Plain(), FACTS) == {"parameters": 45, "multiply_adds": 3 * 8 * 5}
