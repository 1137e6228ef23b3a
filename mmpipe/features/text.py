"""Text → token ids by a byte-level byte-pair encoding that is fitted on the train split."""

import json
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mmpipe.answers.turns import latest

PAD = 0
"""Id that fills short texts up in a batch."""
MASK = 1
"""Id that token dropout puts in a token's place."""
SPECIALS = ["<pad>", "<mask>"]


def fit(texts: Iterable[str], *, vocab_size: int, lowercase: bool) -> str:
    """The encoding as the JSON of `tokenizers`; the order of the texts does not matter.

    All 256 bytes are tokens, so that no text is out of vocabulary. Unicode is normalised to NFC first.
    """
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    serialised: str = tokenizer.to_str(pretty=True)
    return serialised + "\n"


def encode(
    texts: list[str], tokenizer_json: str, *, max_tokens: int, turns: int | None = None
) -> list[NDArray[np.int32]]:
    """int32 ids of shape (tokens,) a text, at most `max_tokens`; a text without any letter may have none.

    `<pad>` and `<mask>` within a text are ordinary characters. A tokenizer of pretrained weights may put
    marks around a text; they count as tokens, and alone they are none. `turns`: each text is a dialogue, of
    which so many turns are kept before its question; one that is too long loses its beginning, not its end.
    """
    tokenizer = _load(tokenizer_json, max_tokens, "right" if turns is None else "left")
    kept = texts if turns is None else [latest(text, turns) for text in texts]
    encodings = tokenizer.encode_batch_fast(kept)
    if tokenizer.post_processor is not None:
        return [np.array([] if all(e.special_tokens_mask) else e.ids, np.int32) for e in encodings]
    return [np.array(encoding.ids, np.int32) for encoding in encodings]


def adopt(tokenizer_json: str) -> str:
    """The tokenizer of pretrained weights, as this version of `tokenizers` writes it."""
    serialised: str = Tokenizer.from_str(tokenizer_json).to_str(pretty=True)
    return serialised + "\n"


def vocab_size(tokenizer_json: str) -> int:
    """Number of ids: the largest + 1."""
    size: int = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    return size


def facts(*, tokenizer_json: str, max_tokens: int, turns: int | None = None) -> dict[str, str]:
    """Metadata of the feature table."""
    numbers = {"pad": PAD, "mask": MASK, "vocab_size": vocab_size(tokenizer_json), "max_tokens": max_tokens}
    numbers |= {} if turns is None else {"turns": turns}
    return {
        "dtype": "int32",
        "shape": json.dumps([-1]),
        **{key: str(value) for key, value in numbers.items()},
    }


def max_bytes(*, max_tokens: int, **_: object) -> int:
    """Bytes of the largest feature."""
    return max_tokens * 4


@lru_cache(maxsize=4)
def _load(tokenizer_json: str, max_tokens: int, direction: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_tokens, direction=direction)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer
