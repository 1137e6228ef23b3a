"""Which task a target column asks for, and the sections of a first `params.yaml` that go with it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

ANSWERS = ("answer", "reply", "response")
"""Usual names of a column with answers to the questions of another."""
CODED = ("reply", "response")
"""Those of them that may as well hold classes, as in a survey, where no question is named as such."""
QUESTIONS = ("question", "query", "prompt")
"""Usual names of a column with questions."""
TRANSCRIPTS = ("transcript", "transcription", "sentence", "utterance")
"""Usual names of a column with what is said in a recording."""
LOOKED_AT = 200
"""So many cells are looked at."""
FEW = 10
"""So many different numbers, or texts, may still be the names of classes."""
LONGEST = (16, 32, 64, 128, 256)
"""Units of an answer, to choose from."""
_UNSMOOTHED: dict[str, object] = {"label_smoothing": 0.0, "auxiliary": 0.0}


def of(columns: Mapping[str, str | None], values: Sequence[str]) -> str:
    """`classify`, `regress`, `transcribe` or `answer`. `values`: cells of the target column, none empty."""
    numbers = [float(value) for value in values] if all(map(is_number, values)) else []
    if any(number % 1 for number in numbers) and len(set(numbers)) > FEW:
        return "regress"
    name = _name(columns, "target")
    asked = _name(columns, "text") or _name(columns, "text_path")
    if asked and name in ANSWERS and (name not in CODED or asked in QUESTIONS or len(set(values)) > FEW):
        return "answer"
    if not _are_written(values, named=name in TRANSCRIPTS):
        return "classify"
    return "transcribe" if columns.get("audio") else "answer"


def sections(columns: Mapping[str, str | None], values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What differs from the defaults, by section; nothing for `classify`."""
    task = of(columns, values)
    if task == "regress":
        return {"data": {"target": "number"}, "model": {"task": task}, "train": {"label_smoothing": 0.0}}
    if task == "transcribe":
        return {
            "data": {"target": "text"},
            "split": {"group_identical_target": True},
            "model": {"task": task, "image": "none", "text": "none", "audio": "crnn"},
            "augment": {"audio_time_mask": 0.1},  # a masked letter cannot be heard
            "train": {**_UNSMOOTHED, "modality_dropout": 0.0},
        }
    return _answer(columns, values) if task == "answer" else {}


def is_number(value: str) -> bool:
    """Whether a cell is a finite number."""
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _name(columns: Mapping[str, str | None], key: str) -> str:
    return (columns.get(key) or "").strip().lower()


def _answer(columns: Mapping[str, str | None], values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Where something is asked of a picture or a recording, the same question may be asked of another."""
    long = sorted(map(len, values))[int(0.95 * (len(values) - 1))]
    longest = next((n for n in LONGEST if long <= n), LONGEST[-1])
    model = {"task": "answer", "output": {"units": "bpe"}, "decoder": {"longest": longest}}
    shown = columns.get("image") or columns.get("audio")
    apart = {"split": {"group_identical_text": False}} if shown else {}
    return {"data": {"target": "text"}, "model": model, "train": dict(_UNSMOOTHED), **apart}


def _are_written(values: Sequence[str], *, named: bool) -> bool:
    """Nobody's classes: texts of several words, most of which come once; no lists of labels.

    `named`: as such by the column, so that either will do.
    """
    different = len(set(values)) > max(FEW, len(values) / 2)
    listed = sum(";" in value or "|" in value or value.startswith("[") for value in values)
    several = bool(values) and statistics.fmean(len(v.split()) for v in values[:LOOKED_AT]) >= 2
    return (different or several if named else different and several) and listed * 2 <= len(values)
