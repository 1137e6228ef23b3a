"""Word and character error rate: edits a reference's words or characters, by jiwer, for each utterance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import NotFoundError
from mmpipe.transcripts.form import normalise


@dataclass(frozen=True)
class Edits:
    """Of N utterances: substitutions + deletions + insertions, and the reference's length: int64 (N,)."""

    edits: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def rate(self) -> float:
        """Edits in all by references' length in all; NaN where there is no reference. It may exceed 1."""
        total = int(self.lengths.sum())
        return float(self.edits.sum()) / total if total else float("nan")


def words(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """In words of the texts' normal forms (`form.normalise`): `rate` is the WER.

    Raises NotFoundError `library-missing` without jiwer.
    """
    return _counted("process_words", str.split, references, hypotheses)


def characters(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """In characters of the normal forms, spaces among them: `rate` is the CER. Raises as `words` does."""
    return _counted("process_characters", list, references, hypotheses)


def _counted(
    process: str, parts: Callable[[str], list[str]], references: Sequence[str], hypotheses: Sequence[str]
) -> Edits:
    """jiwer refuses an empty reference; against one, all that was recognised was inserted."""
    told, heard = ([normalise(text) for text in texts] for texts in (references, hypotheses))
    lengths = np.array([len(parts(text)) for text in told], np.int64)
    edits = np.array([len(parts(text)) for text in heard], np.int64)
    whole = np.flatnonzero(lengths).tolist()
    if whole:
        found = getattr(_jiwer(), process)([told[i] for i in whole], [heard[i] for i in whole])
        edits[whole] = [
            sum(
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in alignment
                if chunk.type != "equal"
            )
            for alignment in found.alignments
        ]
    return Edits(edits, lengths)


def _jiwer() -> Any:
    try:
        import jiwer
    except ImportError:
        raise NotFoundError(
            "library-missing", "WER and CER need jiwer", fix="pip install 'mmpipe[sequence]'"
        ) from None
    return jiwer
