"""Shapley values: by hand, by brute force over all orders, and of a real network."""

from itertools import combinations, permutations

import numpy as np
import pytest
import tiny_bundle
import torch
from typer.testing import CliRunner

from mmpipe import metrics, paths
from mmpipe.cli import app
from mmpipe.contribution import shapley
from mmpipe.errors import InvalidError, UsageError
from mmpipe.model.encoders import Encoded
from mmpipe.predict import Sample, load

NAMES = ("audio", "image", "text")


def by_orders(worth, players):
    """The definition: what a player adds on joining, averaged over every order of joining."""
    total = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        for place, player in enumerate(order):
            before, after = order[:place], order[: place + 1]
            total[player] += worth["+".join(sorted(after))] - worth["+".join(sorted(before))]
    return {player: value / len(orders) for player, value in total.items()}


def test_two_players_by_hand():
    worth = {"": 0.1, "a": 0.5, "b": 0.3, "a+b": 0.9}
    # a joins first: 0.4, or after b: 0.6; b joins first: 0.2, or after a: 0.4
    assert shapley(worth, ["b", "a"]) == pytest.approx({"a": 0.5, "b": 0.3})


def test_three_players_by_hand():
    """The glove game: a has a left glove, b and c a right one each; a pair is worth 1."""
    worth = {"": 0, "a": 0, "b": 0, "c": 0, "b+c": 0, "a+b": 1, "a+c": 1, "a+b+c": 1}
    assert shapley(worth, ["a", "b", "c"]) == pytest.approx({"a": 2 / 3, "b": 1 / 6, "c": 1 / 6})


def test_one_player_has_all_and_none_has_nothing():
    assert shapley({"": 0.25, "text": 0.75}, ["text"]) == {"text": 0.5}
    assert shapley({"": 0.25}, []) == {}


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    players = NAMES[: 1 + seed % 3]
    subsets = ["+".join(some) for n in range(len(players) + 1) for some in combinations(players, n)]
    worth = dict(zip(subsets, rng.random(len(subsets)).tolist(), strict=True))
    found = shapley(worth, players)
    assert found == pytest.approx(by_orders(worth, players))
    assert sum(found.values()) == pytest.approx(worth["+".join(players)] - worth[""])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    samples = tiny_bundle.write(root)
    return load(root / paths.BUNDLE, device="cpu"), samples


def of_nothing(predictor):
    """Probabilities with everything absent, from the network itself."""
    network = predictor.bundle.model
    zeros = Encoded(torch.zeros(1, 0, 1), torch.zeros(1, network.dim), torch.zeros(1, 0))
    encoded = dict.fromkeys(network.modalities, zeros)
    absent = {m: torch.zeros(1, dtype=torch.bool) for m in network.modalities}
    with torch.inference_mode():
        logits = network.decode(encoded, absent).logits.numpy()
        return metrics.softmax(logits, predictor.bundle.temperature)[0].tolist()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_networks_contributions_are_those_of_its_own_predictions(model, size):
    predictor, samples = model
    sample = next(one for one in samples.values() if len(one) == size)
    found = predictor.explain(**sample)
    place = predictor.bundle.labels.index(found.label)
    worth = {"": of_nothing(predictor)[place]}
    for n in range(1, size + 1):
        for some in combinations(sorted(sample), n):
            alone = predictor.predict(**{m: sample[m] for m in some})
            worth["+".join(some)] = alone.probabilities[found.label]
    assert found.contributions == pytest.approx(by_orders(worth, sorted(sample)), abs=1e-5)
    assert found.baseline == pytest.approx(worth[""], abs=1e-5)
    assert found.baseline + sum(found.contributions.values()) == pytest.approx(found.confidence)
    assert list(found.contributions) == list(found.modalities) == sorted(sample)


def test_an_explanation_is_the_prediction_and_more(model):
    predictor, samples = model
    for sample in list(samples.values())[:5]:
        predicted, explained = vars(predictor.predict(**sample)), vars(predictor.explain(**sample))
        assert {key: explained[key] for key in predicted} == predicted
        assert explained.keys() - predicted.keys() == {"contributions", "baseline"}
    assert predictor.explanations([]) == []


def test_many_at_once_are_as_one_by_one(model):
    predictor, samples = model
    several = [predictor.features(Sample(**sample)) for sample in list(samples.values())[:8]]
    for one, alone in zip(predictor.explanations(several), samples.values(), strict=False):
        single = predictor.explain(**alone)
        assert one.contributions == pytest.approx(single.contributions, abs=1e-5)
        assert one.label == single.label


def test_what_cannot_be_predicted_cannot_be_explained(model):
    predictor, _ = model
    with pytest.raises(UsageError, match="got nothing"):
        predictor.explain()
    with pytest.raises(InvalidError, match="text-control"):
        predictor.explain(text="a\0b")


def test_the_command_says_what_each_modality_adds(model, monkeypatch):
    predictor, samples = model
    sample = next(one for one in samples.values() if len(one) == 3)
    monkeypatch.chdir(sample["image"].parents[1])
    given = [word for m in sample for word in (f"--{m}", str(sample[m]))]
    done = CliRunner().invoke(app, ["predict", *given, "--explain"], catch_exceptions=False)
    said = done.stdout.split("what each modality adds, in points:\n")[1].splitlines()
    found = predictor.explain(**sample)
    shown = {line.split(maxsplit=1)[1]: float(line.split()[0]) for line in said}
    assert shown.keys() == {"nothing given", *found.contributions}
    assert shown["nothing given"] == pytest.approx(100 * found.baseline, abs=0.051)
    assert shown["image"] == pytest.approx(100 * found.contributions["image"], abs=0.051)
