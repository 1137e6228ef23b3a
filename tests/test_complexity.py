"""Multiply-adds against a count by hand."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mmpipe.errors import InvalidError
from mmpipe.model import complexity
from mmpipe.model.network import build_model
from mmpipe.tasks.task import Output

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
            assert batch.inputs["text"].shape[0] in (1, 8) and int(batch.lengths["text"][0]) == 8
            return self.layer(torch.zeros(3, 8))

    found = complexity.measure(Plain(), FACTS)
    held = 4 * (3 * 8 + 3 * 5)  # what goes in and what comes out, in float32
    assert found == {
        "parameters": 45,
        "multiply_adds": 3 * 8 * 5,
        "activation_bytes": held,
        "activation_bytes_8": held,
    }


def test_memory_is_what_is_alive_at_once_and_not_the_weights():
    class Chain(nn.Module):
        modalities = ("text",)
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5000))

        def forward(self, batch):
            size = len(batch.index)
            a = torch.ones(size, 1000)
            b = a * 2  # both: 2,000 floats a sample
            del a
            c = torch.cat([b, b, b], 1)  # 1,000 and 3,000
            del b
            return c[:, :10] + self.weight.view(500, 10)[0]  # a view, and ten more: less

    for _ in range(2):
        found = complexity.measure(Chain(), FACTS)
        assert found["activation_bytes"] == 4 * 4000 and found["activation_bytes_8"] == 8 * 4 * 4000


def test_a_model_within_its_budget_passes_and_all_that_it_exceeds_is_named(monkeypatch):
    model = build_model(modalities=["text"], classes=2, dim=16, dropout=0.5, vocab_size=40)
    found = complexity.measure(model, FACTS)
    complexity.check(model, FACTS, {**found, "latency_ms": 60_000.0})
    complexity.check(model, FACTS, dict.fromkeys(found))
    assert model.training
    low = {name: value - 1 for name, value in found.items()}
    with pytest.raises(InvalidError, match="budget-exceeded") as caught:
        complexity.check(model, FACTS, {**low, "latency_ms": 1e-6})
    for name, value in found.items():
        assert f"{value:,} {name} of {value - 1:,}" in str(caught.value)
    assert "latency_ms of 1e-06" in str(caught.value) and caught.value.exit_status == 5


def test_the_time_of_a_prediction_is_that_of_the_largest_sample():
    class Slow(nn.Module):
        modalities = ("text",)
        device = torch.device("cpu")

        def forward(self, batch):
            time.sleep(0.001 * batch.inputs["text"].shape[1])
            return Output(torch.zeros(1, 2), {})

    wide = {"text": {**FACTS["text"], "max_tokens": 32}}
    assert complexity.load(Slow(), FACTS, 1).latency_ms >= 16  # padded to 16 tokens
    assert complexity.load(Slow(), wide, 1).latency_ms >= 32


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_memory_of_a_batch_is_what_was_held_meanwhile():
    class Wide(nn.Module):
        modalities = ("text",)
        device = torch.device("cpu")

        def forward(self, batch):
            held = torch.ones(len(batch.index), 25_000_000)  # 100 MB a sample
            return Output(held[:, :2].clone(), {})

    one, two = (complexity.load(Wide(), FACTS, size) for size in (1, 2))
    again = complexity.load(Wide(), FACTS, 1)
    assert 80 < two.memory_mb - one.memory_mb < 130
    assert abs(again.memory_mb - one.memory_mb) < 40  # the peak before is forgotten
