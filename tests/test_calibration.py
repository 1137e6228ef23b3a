"""Temperature: the known one comes back, the loss is at its lowest, accuracy does not move."""

import numpy as np
import pytest

from mmpipe import metrics
from mmpipe.calibration import COLDEST, HOTTEST, fit_temperature


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
