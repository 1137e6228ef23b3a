"""How fast CTC is decoded: real-time factor of greedy and beam search, alone and with a language model.

    python benchmarks/transcripts.py

The frames are drawn, 25 a second, over 45 ids: some certain, some spread over several units, as by a model
that was trained on little.
"""

import time

import numpy as np

from mmpipe.transcripts import ctc, ngram
from mmpipe.transcripts.scorer import Expected, Language
from mmpipe.transcripts.units import Units

SECONDS, RATE, SIZE, UTTERANCES = 2.0, 25, 45, 40


def frames(rng):
    """(T, ids) log-probabilities; six in ten frames are blanks."""
    count = int(SECONDS * RATE)
    scores = rng.normal(0, 2.0, (count, SIZE))
    scores[:, 0] += 6.0 * (rng.random(count) < 0.6)
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def sentence(rng):
    """Ids with some structure, so that there is something to learn."""
    return [int(1 + (unit + rng.integers(0, 3)) % (SIZE - 1)) for unit in range(int(rng.integers(10, 60)))]


def main() -> None:
    """One line a way of decoding."""
    rng = np.random.default_rng(0)
    model = ngram.fit([sentence(rng) for _ in range(700)], order=6, size=SIZE)
    units = Units((" ", *(chr(ord("A") + i) for i in range(SIZE - 2))))
    words = ["".join(rng.choice(list(units.texts[1:]), 5)) for _ in range(50)]
    heard = [frames(rng) for _ in range(UTTERANCES)]
    ways = {"greedy": ctc.greedy}
    for width in (8, 32, 100):
        for name, scorers in {
            "": [],
            " + 6-gram": [Language(model, 0.5, 1.0)],
            " + 6-gram + 50 words": [Language(model, 0.5, 1.0), Expected(words, units, bonus=0.5)],
        }.items():
            ways[f"beam {width}{name}"] = lambda x, w=width, s=scorers: ctc.beam_search(x, width=w, scorers=s)
    for name, decode in ways.items():
        start = time.process_time()
        for one in heard:
            decode(one)
        spent = time.process_time() - start
        print(f"{name:32} real-time factor {spent / (SECONDS * UTTERANCES):.6f}")


if __name__ == "__main__":
    main()
