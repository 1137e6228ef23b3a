"""Milliseconds to write an answer: the whole prefix computed for each token, or keys and values of it kept.

    python benchmarks/answers.py --steps 90     # half a minute on one thread

A decoder of drawn weights (the defaults of `model.decoder`, 300 units) whose answers all have one length.
`--steps`: of the memory. The ways take turns, the fastest of seven rounds counts, and their answers agree.
"""

import argparse
import math
import time

import torch

from mmpipe.model import decoder, generation
from mmpipe.model.decoder import END, Decoder
from mmpipe.model.stepwise import Stepwise

UNITS, DIM, LONGEST, WIDTH, ROUNDS = 300, 96, 32, 4, 7


def main() -> None:
    """A row for each batch, search and length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=90)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Decoder(UNITS, DIM, memory_dim=DIM, max_tokens=LONGEST).eval()
    print("| samples | search | tokens | whole prefix, ms | kept, ms |\n|---|---|---|---|---|")
    for samples in (1, 64):
        memory, mask = torch.randn(samples, steps, DIM), torch.ones(samples, steps, dtype=torch.bool)
        for search in ("greedy", "beam"):
            for tokens in (1, 4, 12):
                whole, kept = (1000 * one / samples for one in fastest(model, (memory, mask), search, tokens))
                print(f"| {samples} | {search} | {tokens} | {whole:.2f} | {kept:.2f} |", flush=True)


def fastest(model, seen, search, tokens):
    """Seconds of both ways."""
    ways, times, found = (again, Stepwise), ([], []), [None, None]
    for _ in range(1 + ROUNDS):
        for number, way in enumerate(ways):
            began = time.perf_counter()
            with torch.inference_mode():
                found[number] = write(of_length(way(model, *seen), tokens), len(seen[0]), search)
            times[number].append(time.perf_counter() - began)
    assert found[0] == found[1]
    return [min(some[1:]) for some in times]


def write(ask, samples, search):
    """The tokens of the answers."""
    if search == "greedy":
        return [one.tokens for one in generation.greedy(ask, samples, limit=LONGEST)]
    return [
        [one.tokens for one in some] for some in generation.beam(ask, samples, limit=LONGEST, width=WIDTH)
    ]


def again(model, memory, mask):
    """The whole decoder over every prefix."""

    def ask(prefixes, rows):
        ended = torch.cat([prefixes, torch.full((len(prefixes), 1), END)], 1)
        return decoder.next_log_probs(model(memory[rows], mask[rows], ended)[:, -1])

    return ask


def of_length(ask, tokens):
    """No answer ends before so many tokens, and then each does."""

    def told(prefixes, rows):
        found = ask(prefixes, rows)
        found[:, END] = -math.inf if prefixes.shape[1] < tokens else 50.0
        return found

    return told


if __name__ == "__main__":
    main()
