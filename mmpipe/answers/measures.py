"""How good answers in words are: exact match, token F1, and BLEU by sacrebleu."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import NotFoundError
from mmpipe.groups import normalise_text


def exact_match(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """(N,): 1 where the words are the same in the same order; case, punctuation and spaces do not count."""
    pairs = zip(references, answers, strict=True)
    return np.array([float(_form(told) == _form(given)) for told, given in pairs])


def token_f1(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """(N,): F1 of the bags of words (Rajpurkar et al. 2016); 1 where neither has a word."""
    pairs = zip(references, answers, strict=True)
    return np.array([_f1(_form(told).split(), _form(given).split()) for told, given in pairs])


def bleu(references: Sequence[str], answers: Sequence[str]) -> float:
    """Corpus BLEU of 4-grams, 0 to 1, one reference an answer (Papineni et al. 2002, Post 2018); 0 for none.

    N-grams that answers are too short to have do not count. Raises NotFoundError `library-missing`.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        fix = "pip install 'mmpipe[sequence]'"
        raise NotFoundError("library-missing", "BLEU needs sacrebleu", fix=fix) from None
    if not references:
        return 0.0
    score = BLEU(effective_order=True).corpus_score(list(answers), [list(references)])
    return float(score.score) / 100


def _form(text: str) -> str:
    return normalise_text(text) if text.strip() else ""


def _f1(told: Sequence[str], given: Sequence[str]) -> float:
    if not told or not given:
        return float(not told and not given)
    common = (Counter(told) & Counter(given)).total()
    return 2 * common / (len(told) + len(given))
