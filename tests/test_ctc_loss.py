"""The CTC loss against brute force over all paths, and against finite differences."""

import numpy as np
import pytest
import torch
from test_transcripts import by_brute_force

from mmpipe.model import ctc
from mmpipe.transcripts.ctc import needed_frames


def made(seed=0):
    """Five samples of up to 5 frames over 4 ids; the last two have too few frames, or no transcript."""
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (5, 5, 4))).float()
    texts = [[1, 2, 1], [3, 3], [2], [1, 1, 1], []]
    frames = torch.tensor([5, 4, 1, 4, 3])
    targets = torch.zeros(5, 3, dtype=torch.int64)
    for row, text in enumerate(texts):
        targets[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
    return logits, frames, targets, torch.tensor([len(text) for text in texts]), texts


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_sum_over_all_paths(seed):
    logits, frames, targets, lengths, texts = made(seed)
    expected = 0.0
    for row in range(3):
        log_probs = logits[row, : frames[row]].double().log_softmax(1).numpy()
        expected -= by_brute_force(log_probs)[tuple(texts[row])] / len(texts[row])
    assert float(ctc.loss(logits, frames, targets, lengths)) == pytest.approx(expected / 5, rel=1e-5)


def test_padding_gives_no_gradient_and_the_rest_is_finite_and_right():
    logits, frames, targets, lengths, _ = made()
    logits.requires_grad_()
    ctc.loss(logits, frames, targets, lengths).backward()
    assert torch.isfinite(logits.grad).all()
    for row, count in enumerate(frames.tolist()):
        assert not logits.grad[row, count:].any()
    assert not logits.grad[3:].any() and all(logits.grad[row].any() for row in range(3))
    step = torch.zeros_like(logits)
    step[0, 1, 2] = 1e-2
    with torch.no_grad():
        up, down = (ctc.loss(logits + sign * step, frames, targets, lengths) for sign in (1, -1))
    assert float(up - down) / 2e-2 == pytest.approx(float(logits.grad[0, 1, 2]), abs=2e-4)


def test_what_can_be_aligned_is_what_has_the_frames_it_needs():
    _, frames, targets, lengths, texts = made()
    found = ctc.alignable(frames, targets, lengths).tolist()
    assert found == [needed_frames(t) <= f for t, f in zip(texts, frames.tolist(), strict=True)]
    assert found == [True, True, True, False, True]


def test_it_is_the_same_where_torch_must_be_deterministic():
    logits, frames, targets, lengths, _ = made()
    before = ctc.loss(logits, frames, targets, lengths)
    torch.use_deterministic_algorithms(True)
    try:
        assert ctc.loss(logits, frames, targets, lengths) == before
    finally:
        torch.use_deterministic_algorithms(False)
