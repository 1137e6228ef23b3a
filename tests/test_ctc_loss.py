"""The CTC loss against brute force over all paths and finite differences, and what is learnt by it."""

import numpy as np
import pytest
import torch
from test_transcripts import by_brute_force
from torch.nn.utils.rnn import pad_sequence

from mmpipe.model import ctc
from mmpipe.model.encoders import AudioCNN
from mmpipe.transcripts import ctc as decoding
from mmpipe.transcripts import error_rate, ngram, units
from mmpipe.transcripts.ctc import needed_frames
from mmpipe.transcripts.scorer import Language


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


def chord(rng, text, some):
    """(T, 8) log-mel of a text: each letter sounds in a band of its own for 8 to 12 frames, with rests."""
    parts = [rng.normal(0, 0.3, (4, 8))]
    for unit in some.encode(text):
        tone = rng.normal(0, 0.3, (int(rng.integers(8, 13)), 8))
        tone[:, unit] += 3
        parts += [tone, rng.normal(0, 0.3, (int(rng.integers(4, 9)), 8))]
    return np.concatenate(parts)


def test_an_encoder_learns_to_write_what_it_hears_and_a_language_model_helps():
    """Encoder, loss, decoding and error rates together: unseen texts of five letters and a space."""
    rng = np.random.default_rng(0)
    words = ["ab", "cab", "bead", "dace", "ebb"]
    lines = [" ".join(rng.choice(words, int(rng.integers(1, 4)))) for _ in range(48)]
    some = units.fit(lines)
    mels = [torch.from_numpy(chord(rng, line, some)).float() for line in lines]
    frames = torch.tensor([len(mel) for mel in mels])
    batch = pad_sequence(mels, batch_first=True)
    targets = pad_sequence([torch.tensor(some.encode(line)) for line in lines], batch_first=True)
    lengths = torch.tensor([len(some.encode(line)) for line in lines])
    torch.manual_seed(0)
    encoder = AudioCNN(8, n_mels=8, widths=(24, 24))
    head = torch.nn.Linear(encoder.sequence_dim, some.size)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    train, held = slice(0, 32), slice(32, 48)
    for _ in range(80):
        logits = head(encoder(batch[train], frames[train]).sequence)
        value = ctc.loss(logits, (frames[train] + 3) // 4, targets[train], lengths[train])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    encoder.eval()
    with torch.no_grad():
        log_probs = head(encoder(batch[held], frames[held]).sequence).log_softmax(2).numpy()
    heard = [row[:count] for row, count in zip(log_probs, (frames[held] + 3) // 4, strict=True)]
    plain = [some.decode(decoding.greedy(row)) for row in heard]
    assert error_rate.characters(lines[held], plain).rate < 0.05
    rough = [row + rng.normal(0, 3.0, row.shape) for row in heard]
    rough = [row - np.logaddexp.reduce(row, axis=1, keepdims=True) for row in rough]
    model = ngram.fit([some.encode(line) for line in lines[train]], order=4, size=some.size)
    best = [decoding.beam_search(row, scorers=[Language(model, 1.0, 1.0)])[0].ids for row in rough]
    with_model = error_rate.characters(lines[held], [some.decode(ids) for ids in best]).rate
    without = error_rate.characters(lines[held], [some.decode(decoding.greedy(row)) for row in rough]).rate
    assert with_model < without - 0.1
