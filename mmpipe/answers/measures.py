"""How good answers in words are: exact match, token F1, and BLEU by sacrebleu."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

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
    return float(bleu_of(bleu_counts(references, answers).sum(axis=0, keepdims=True))[0])


def bleu_counts(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """(N, 10): what BLEU is a function of, which adds up over samples.

    N-grams that are right and that there are, of 1 to 4 words; words of the answer and of its reference.
    Raises NotFoundError `library-missing`.
    """
    count = _sacrebleu()(effective_order=True).sentence_score
    found = [count(given, [told]) for told, given in zip(references, answers, strict=True)]
    rows = [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in found]
    return np.array(rows, np.float64).reshape(len(rows), 10)


def bleu_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 10) sums of `bleu_counts` → (n,) corpus BLEU, 0 to 1. Raises NotFoundError `library-missing`."""
    score = partial(_sacrebleu().compute_bleu, smooth_method="exp", effective_order=True)
    rows = sums.astype(np.int64).tolist()
    return np.array([score(row[:4], row[4:8], row[8], row[9]).score / 100 for row in rows])


def _sacrebleu() -> Any:
    """The library's class."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        fix = "pip install 'mmpipe[sequence]'"
        raise NotFoundError("library-missing", "BLEU needs sacrebleu", fix=fix) from None
    return BLEU


def _form(text: str) -> str:
    return normalise_text(text) if text.strip() else ""


def _f1(told: Sequence[str], given: Sequence[str]) -> float:
    if not told or not given:
        return float(not told and not given)
    common = (Counter(told) & Counter(given)).total()
    return 2 * common / (len(told) + len(given))
