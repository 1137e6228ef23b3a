"""Transcripts ↔ ids of the units that are recognised: characters or pieces of words, of the train split.

A transcript is learnt in its normal form (`form`), which is also that of what comes out.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mmpipe.errors import InvalidError
from mmpipe.transcripts.form import normalise

BLANK = 0
"""Id of "no unit here" in CTC. Units have the ids 1 … `Units.size` - 1."""
KINDS = ("characters", "bpe")
_SPACE = "▁"
"""How the pieces of `tokenizers` mark that a word starts."""


@dataclass(frozen=True)
class Units:
    """`texts[i]` is what id i + 1 stands for; a space in it ends one word and starts the next.

    `merges` of a byte-pair encoding over characters; without them each unit is one character.
    """

    texts: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Number of ids, the blank's among them."""
        return len(self.texts) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text's normal form; characters that no train transcript has are left out."""
        form = normalise(text)
        if not self.merges:
            return [self._ids[letter] for letter in form if letter in self._ids]
        return [self._ids[piece] for word in form.split() for piece in self._pieces(" " + word)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, none of them the blank."""
        return " ".join("".join(self.texts[number - 1] for number in ids).split())

    def to_json(self) -> str:
        """For the bundle."""
        return json.dumps({"texts": self.texts, "merges": self.merges}, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "Units":
        """What `to_json` wrote. Raises InvalidError `bundle-format` for anything else."""
        try:
            found = json.loads(text)
            texts = tuple(found["texts"])
            merges = tuple((str(left), str(right)) for left, right in found["merges"])
        except (ValueError, KeyError, TypeError):
            raise InvalidError("bundle-format", "holds no units of transcripts") from None
        if not all(isinstance(unit, str) and unit for unit in texts) or len(set(texts)) < len(texts):
            raise InvalidError("bundle-format", "has units of transcripts that are empty or double")
        return Units(texts, merges)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {unit: number for number, unit in enumerate(self.texts, 1)}

    def _pieces(self, word: str) -> list[str]:
        letters = [_SPACE if letter == " " else letter for letter in word if letter in self._ids]
        pieces = self._tokenizer.encode("".join(letters), add_special_tokens=False).tokens
        return [piece.replace(_SPACE, " ") for piece in pieces]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        vocabulary = {unit.replace(" ", _SPACE): number for unit, number in self._ids.items()}
        return Tokenizer(models.BPE(vocabulary, list(self.merges)))


def fit(transcripts: Iterable[str], *, kind: str = "characters", size: int = 300) -> Units:
    """The units of the train split's transcripts; their order does not matter.

    `size`: most units of a byte-pair encoding; the characters are always among them. Raises InvalidError
    `split-too-few` where no transcript has a letter.
    """
    forms = sorted({form for text in transcripts if (form := normalise(text))})
    if not forms:
        raise InvalidError("split-too-few", "no transcript of the train split has a letter")
    letters = tuple(sorted(set("".join(forms)) | {" "}))
    if kind == "characters":
        return Units(letters)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    alphabet = [letter.replace(" ", _SPACE) for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, len(letters)), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(forms, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].get)
    merges = tuple((str(left), str(right)) for left, right in state["merges"])
    return Units(tuple(piece.replace(_SPACE, " ") for piece in pieces), merges)
