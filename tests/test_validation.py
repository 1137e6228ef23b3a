"""How far each modality is trusted, where classes are rare."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mmpipe import batches, runtime, validation
from mmpipe.model.encoders import Encoded
from mmpipe.model.fusions.feature import Concat
from mmpipe.model.network import Network
from mmpipe.tasks.classify import TASK, Classify
from mmpipe.tasks.task import Wishes


class Same(nn.Module):
    """Pooled = the input."""

    sequence_dim = 2

    def forward(self, x, lengths):
        return Encoded(x[:, None], x, torch.ones(len(x), 1))


def told():
    """A network that adds up what its two modalities say as it is: nothing comes of both together."""
    head = Classify(["image", "text"], 2, fused_dim=4, classes=2, dropout=0.0)
    for part in [head.joint, *head.single.values()]:
        nn.init.zeros_(part.bias)
    nn.init.zeros_(head.joint.weight)
    for part in head.single.values():
        nn.init.eye_(part.weight)
    return Network(
        {m: Same() for m in ("image", "text")}, Concat(["image", "text"], 2), head, dim=2, task=TASK
    )


def likelihoods(values, middles, deviations):
    """(N, 2): log-densities of two normal distributions."""
    z = (values[:, None] - np.array(middles)) / deviations
    return (-0.5 * z**2 - np.log(deviations)).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    """One sample in twenty is rare; each modality knows one class well, by log-likelihoods of either."""
    chance = np.random.default_rng(0)
    target = (np.arange(4000) % 20 == 0).astype(int)
    tight, broad = 0.5, 1.5
    image = chance.normal(np.where(target, 1.0, 0.0), np.where(target, broad, tight))
    text = chance.normal(np.where(target, 1.5, 0.0), np.where(target, tight, broad))
    said = {
        "image": list(likelihoods(image, (0, 1), (tight, broad))),
        "text": list(likelihoods(text, (0, 1.5), (broad, tight))),
    }
    found = batches.from_arrays([str(n) for n in range(len(target))], said, {m: [2] for m in said})
    return replace(found, target=torch.tensor(target))


def recalls(network, data):
    with torch.no_grad():
        right = network(data.batch(np.arange(len(data)))).logits.argmax(1) == data.target
    return [float(right[data.target == k].double().mean()) for k in (0, 1)]


def test_trust_counts_rare_classes_as_training_does(data):
    """By likelihoods alone both deserve trust 1; the plain loss asks who knows the common class."""
    machine = runtime.Runtime(torch.device("cpu"), runtime.FLOAT32)
    before = recalls(told(), data)
    found = {}
    for name, wishes in (
        ("plain", Wishes()),
        ("weights", Wishes("inverse")),
        ("sampling", Wishes().corrections(balanced=True)),
        ("adjustment", Wishes(logit_adjustment=1.0)),
    ):
        network = told()
        validation.fit_trust(network, data, machine, each=TASK.rule(data.target, wishes, outputs=2).each)
        found[name] = (network.trust.tolist(), recalls(network, data))
    trust, (_, rare) = found.pop("plain")
    assert trust[0] > 1.5 and trust[1] < 0.8 and rare < before[1] - 0.1
    for trust, now in found.values():
        assert trust == pytest.approx([1, 1], abs=0.15)
        assert now == pytest.approx(before, abs=0.02)
