"""Each loss, and how losses are weighed, worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from mmpipe import objective
from mmpipe.model.encoders import Encoded

ALL = torch.tensor([True, True, True])


def encoded(x):
    return Encoded(x[:, None], x, torch.ones(len(x), 1))


def test_info_nce_by_hand():
    """Cosines of a's rows with b's: 1, 0 / 0.6, 0.8. Temperature 0.1 makes them 10, 0 / 6, 8."""
    a, b = torch.tensor([[3.0, 0.0], [0.6, 0.8]]), torch.tensor([[5.0, 0.0], [0.0, 2.0]])
    across = math.log(1 + math.exp(-10)) + math.log(1 + math.exp(-2))
    back = math.log(1 + math.exp(-4)) + math.log(1 + math.exp(-8))
    found = objective.info_nce(a, b, ALL[:2], 0.1)
    assert float(found) == pytest.approx((across + back) / 4, rel=1e-5)


def test_info_nce_is_the_loss_without_the_samples_that_lack_one():
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4)
    both = torch.tensor([True, False, True])
    wanted = objective.info_nce(a[both], b[both], ALL[:2], 0.5)
    torch.testing.assert_close(objective.info_nce(a, b, both, 0.5), wanted)
    spoiled = b.clone().requires_grad_()
    spoiled.data[1] = 1e6
    found = objective.info_nce(a, spoiled, both, 0.5)
    torch.testing.assert_close(found.detach(), wanted)
    found.backward()
    assert spoiled.grad[1].tolist() == [0] * 4 and spoiled.grad[0].abs().sum() > 0


@pytest.mark.parametrize("both", [[False, False, False], [False, True, False]])
def test_info_nce_of_no_pair_is_zero_and_has_no_gradient(both):
    a = torch.randn(3, 4, requires_grad=True)
    found = objective.info_nce(a, torch.randn(3, 4), torch.tensor(both), 0.1)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-6) and a.grad.abs().max() < 1e-6


def test_contrastive_is_the_mean_over_all_pairs_of_modalities():
    torch.manual_seed(0)
    x = {m: torch.randn(3, 4) for m in ("audio", "image", "text")}
    present = {"audio": torch.tensor([True, True, False]), "image": ALL, "text": ALL}
    pairs = [("audio", "image"), ("audio", "text"), ("image", "text")]
    wanted = sum(objective.info_nce(x[a], x[b], present[a] & present[b], 0.2) for a, b in pairs) / 3
    found = objective.contrastive({m: encoded(value) for m, value in x.items()}, present, 0.2)
    torch.testing.assert_close(found, wanted)


LOSSES = {"task": torch.tensor(2.0), "audio": torch.tensor(3.0), "contrastive": torch.tensor(5.0)}


def test_fixed_weights_multiply():
    weights = objective.Weights({"task": 1.0, "audio": 0.5, "contrastive": 0.0}, learned=False)
    assert float(weights(LOSSES)) == 2 + 1.5
    assert weights.now() == {} and not list(weights.parameters())


def test_learned_weights_by_hand_and_where_they_lead():
    """Kendall et al.: e^-s · loss + s / 2, least at e^-s = 1 / (2 · loss)."""
    weights = objective.Weights({"task": 1.0, "audio": 0.5, "contrastive": 0.0}, learned=True)
    assert weights.now() == pytest.approx({"task": 1.0, "audio": 0.5})
    assert float(weights(LOSSES).detach()) == pytest.approx(2 + 0.5 * 3 + math.log(2) / 2)
    solver = torch.optim.SGD(weights.parameters(), lr=0.2)
    for _ in range(300):
        solver.zero_grad()
        weights(LOSSES).backward()
        solver.step()
    assert weights.now() == pytest.approx({"task": 1 / 4, "audio": 1 / 6}, rel=1e-3)


def test_which_losses_there_are():
    def names(modalities, joint=True, auxiliary=0.5, contrastive=0.2):
        settings = objective.Settings(contrastive=contrastive)
        return objective.build(modalities, joint=joint, auxiliary=auxiliary, settings=settings).fixed

    assert names(["audio", "text"]) == {"task": 1, "audio": 0.5, "text": 0.5, "contrastive": 0.2}
    assert names(["audio", "text"], contrastive=0.0, auxiliary=0.0) == {"task": 1}
    assert names(["text"]) == {"task": 1}
    assert names(["audio", "text"], joint=False) == {"audio": 1, "text": 1, "contrastive": 0.2}
    assert names(["text"], joint=False) == {"text": 1}


def test_the_similarity_of_pooled_vectors_grows_when_the_loss_is_lowered():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 8)
    a.requires_grad_()
    before = functional.cosine_similarity(a, b).mean()
    solver = torch.optim.Adam([a], lr=0.1)
    for _ in range(50):
        solver.zero_grad()
        objective.info_nce(a, b, torch.ones(6).bool(), 0.1).backward()
        solver.step()
    assert functional.cosine_similarity(a, b).mean() > before + 0.5
