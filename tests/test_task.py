"""What every task has at hand: outputs of several batches as one."""

import torch

from mmpipe.tasks.task import Output, joined


def test_batches_of_vectors_follow_one_another():
    parts = [Output(torch.full((n, 2), float(n)), {"text": torch.full((n, 2), -float(n))}) for n in (1, 2)]
    found = joined(parts)
    assert found.logits.tolist() == [[1, 1], [2, 2], [2, 2]] and found.lengths is None
    assert found.by_modality["text"].tolist() == [[-1, -1], [-2, -2], [-2, -2]]


def test_batches_of_sequences_are_filled_up_to_the_longest():
    short = Output(torch.ones(1, 2, 3), {}, torch.tensor([2]))
    long = Output(torch.full((2, 4, 3), 2.0), {}, torch.tensor([4, 0]))
    found = joined([short, long])
    assert found.logits.shape == (3, 4, 3) and found.lengths.tolist() == [2, 4, 0]
    assert found.logits[0, :, 0].tolist() == [1, 1, 0, 0] and (found.logits[1:] == 2).all()
