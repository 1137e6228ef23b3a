"""The words that may be expected: what the token ids of a text say."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from tokenizers import Tokenizer


def decode(tokens: Sequence[NDArray[Any] | None], tokenizer_json: str) -> list[str]:
    """The text of each, as far as its ids say it; None says nothing. `tokenizer_json`: of `tokenizers`."""
    ids = [[] if one is None else one.tolist() for one in tokens]
    return [words.strip() for words in Tokenizer.from_str(tokenizer_json).decode_batch(ids)]
