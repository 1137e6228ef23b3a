"""Temperature: the known one comes back, the loss is at its lowest, accuracy does not move."""

import numpy as np
import pytest

from mmpipe import metrics
from mmpipe.calibration import COLDEST, HOTTEST, fit_binary_temperature, fit_temperature


def drawn(temperature: float, samples: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 3, (samples, 5))
    chances = metrics.softmax(logits, temperature).cumsum(axis=1)
    return logits, (generator.random((samples, 1)) > chances).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_recovers_a_known_temperature(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_is_where_the_loss_is_lowest():
    logits, targets = drawn(2.0, 300)
    best = fit_temperature(logits, targets)
    losses = [metrics.nll(metrics.softmax(logits, best * factor), targets) for factor in (0.99, 1.0, 1.01)]
    assert losses[1] < min(losses[0], losses[2])


def test_adding_a_number_to_a_row_changes_nothing():
    logits, targets = drawn(1.5, 200)
    shifted = logits + np.arange(200)[:, None] * 7.0
    assert fit_temperature(shifted, targets) == pytest.approx(fit_temperature(logits, targets), rel=1e-9)


def test_stays_within_bounds():
    perfect = np.eye(3) * 5
    assert fit_temperature(perfect, [0, 1, 2]) == pytest.approx(COLDEST)
    assert fit_temperature(perfect, [1, 2, 0]) == pytest.approx(HOTTEST)
    assert fit_temperature(np.zeros((0, 3)), []) == 1.0


def sure_of(samples: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that has made up its mind, and what it says."""
    said = chance.integers(0, 4, samples)
    return np.where(np.eye(4)[said] > 0, 6.0, -6.0) + chance.normal(0, 1, (samples, 4)), said


@pytest.mark.parametrize("samples", [4, 24, 1000])
def test_without_an_error_confidence_is_what_so_many_right_answers_make_believable(samples):
    logits, right = sure_of(samples, np.random.default_rng(5))
    assert fit_temperature(logits, right) == pytest.approx(COLDEST)
    found = fit_temperature(logits, right, doubt=True)
    sure = metrics.softmax(logits, found).max(axis=1).mean()
    assert sure == pytest.approx((samples + 1) / (samples + 2), abs=1e-6)
    labels = (logits > 0).astype(float)
    assert fit_binary_temperature(logits, labels) == pytest.approx(COLDEST)
    chances = 1 / (1 + np.exp(-np.abs(logits) / fit_binary_temperature(logits, labels, doubt=True)))
    assert chances.mean() == pytest.approx((logits.size + 1) / (logits.size + 2), abs=1e-6)


def test_with_an_error_doubt_changes_nothing():
    logits = np.random.default_rng(5).normal(0, 3, (50, 4))
    one_wrong = logits.argmax(axis=1)
    one_wrong[7] = (one_wrong[7] + 1) % 4
    assert fit_temperature(logits, one_wrong, doubt=True) == fit_temperature(logits, one_wrong)
    labels = (logits > 0).astype(float)
    labels[7, 1] = 1 - labels[7, 1]
    assert fit_binary_temperature(logits, labels, doubt=True) == fit_binary_temperature(logits, labels)


def test_doubt_is_more_honest_about_new_samples_than_the_bound_is():
    """Of models that are right 98 times in 100 and by chance on all of their few validation samples."""
    chance, losses = np.random.default_rng(11), {True: [], False: []}
    for _ in range(50):
        logits, right = sure_of(530, chance)
        targets = np.where(chance.random(530) < 0.98, right, (right + 1) % 4)
        targets[:30] = right[:30]
        for doubt, found in losses.items():
            temperature = fit_temperature(logits[:30], targets[:30], doubt=doubt)
            found.append(metrics.nll(metrics.softmax(logits[30:], temperature), targets[30:]))
    assert np.mean(losses[True]) < 0.2 * np.mean(losses[False])
