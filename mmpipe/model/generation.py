"""Answers out of a decoder: the likeliest token each time, a beam, or a closed set ranked."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmpipe.model import decoder
from mmpipe.model.decoder import END, Decoder

Next = Callable[[Tensor, Tensor], Tensor]
"""(prefixes int (N, t), whose sample each is, int (N,)) → log p (N, V) of the next token; see `Stepwise`."""


class Answer(NamedTuple):
    """`tokens` without the end. `log_prob`: of the whole answer and its end, nats."""

    tokens: list[int]
    log_prob: float


def endless(ask: Next) -> Next:
    """The same, but no answer ends before it has to: what the longest costs, whatever the weights are."""

    def never_ending(prefixes: Tensor, rows: Tensor) -> Tensor:
        told = ask(prefixes, rows)
        told[:, END] = -math.inf
        return told

    return never_ending


def greedy(ask: Next, samples: int, *, limit: int) -> list[Answer]:
    """Token by token the likeliest; answers of `limit` tokens must end."""
    prefixes = torch.zeros(samples, 0, dtype=torch.int64)
    log_probs = torch.zeros(samples, dtype=torch.float64)
    lengths = torch.zeros(samples, dtype=torch.int64)
    going = torch.arange(samples)
    for length in range(limit + 1):
        told = ask(prefixes[going], going).cpu().double()
        best = told.argmax(1) if length < limit else torch.full_like(going, END)
        log_probs[going] += told.gather(1, best[:, None])[:, 0]
        following = torch.full((samples, 1), END)
        following[going, 0] = best
        prefixes = torch.cat([prefixes, following], 1)
        going = going[best != END]
        lengths[going] = length + 1
        if not len(going):
            break
    rows = zip(prefixes.tolist(), lengths.tolist(), log_probs.tolist(), strict=True)
    return [Answer(tokens[:length], log_prob) for tokens, length, log_prob in rows]


def beam(
    ask: Next, samples: int, *, limit: int, width: int = 4, length_power: float = 0.0
) -> list[list[Answer]]:
    """The best answers of each sample, at most `width`, best first by log p / tokens ** `length_power`.

    The end counts as a token. Answers of `limit` tokens must end. `width` unfinished ones are kept a sample:
    with as many as there are prefixes, the answers are the likeliest there are.
    """
    prefixes = torch.zeros(samples, 1, 0, dtype=torch.int64)
    scores = torch.zeros(samples, 1, dtype=torch.float64)
    done: list[list[tuple[float, Answer]]] = [[] for _ in range(samples)]
    for length in range(limit + 1):
        rows = torch.arange(samples).repeat_interleave(prefixes.shape[1])
        told = ask(prefixes.flatten(0, 1), rows).cpu().double().view(*prefixes.shape[:2], -1)
        total = scores[:, :, None] + told
        for row, found in enumerate(done):
            ended = zip(prefixes[row].tolist(), total[row, :, END].tolist(), strict=True)
            good = [Answer(tokens, log_prob) for tokens, log_prob in ended if log_prob > -math.inf]
            found += [(answer.log_prob / (length + 1) ** length_power, answer) for answer in good]
            found.sort(key=lambda pair: (-pair[0], pair[1].tokens))
            del found[width:]
        prefixes, scores = _grown(prefixes, total, width)
        hope = (scores[:, 0] / (limit + 1) ** length_power).tolist()
        if all(len(found) == width and found[-1][0] >= most for found, most in zip(done, hope, strict=True)):
            break
    return [[answer for _, answer in found] for found in done]


def _grown(prefixes: Tensor, total: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` best prefixes of one token more, and their log p; -inf where there are fewer."""
    _, kept, size = total.shape
    open_ended = total.clone()
    open_ended[:, :, END] = -math.inf
    scores, place = open_ended.flatten(1).topk(min(width, kept * size), dim=1)
    parents = prefixes.gather(1, (place // size)[:, :, None].expand(-1, -1, prefixes.shape[2]))
    return torch.cat([parents, (place % size)[:, :, None]], 2), scores


def rank(
    model: Decoder, memory: Tensor, mask: Tensor, candidates: Sequence[Sequence[int]], *, batch: int = 4_096
) -> Tensor:
    """log p (B, C) of each of a closed set of answers (token ids without the end), for each sample.

    So many pairs of a sample and an answer are computed at a time.
    """
    ended = [torch.tensor([*tokens, END]) for tokens in candidates]
    lengths = torch.tensor([len(tokens) for tokens in ended])
    tokens = pad_sequence(ended, batch_first=True, padding_value=END)
    pairs = torch.cartesian_prod(torch.arange(len(memory)), torch.arange(len(candidates)))
    found = []
    for part in torch.split(pairs, batch):
        row, one = part.unbind(1)
        given, long = tokens[one].to(memory.device), lengths[one].to(memory.device)
        row = row.to(memory.device)
        found.append(decoder.log_likelihood(model(memory[row], mask[row], given), given, long))
    return torch.cat(found).view(len(memory), len(candidates))
