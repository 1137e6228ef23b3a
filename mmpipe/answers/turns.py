"""A dialogue as one text: a line a turn, each turn marked, the question that is to be answered last."""

import json
from collections.abc import Sequence

ASKS, ANSWERS = "Q:", "A:"
Turns = Sequence[tuple[str, str]]
"""(question, answer) of earlier turns, the oldest first."""


def join(history: Turns, question: str) -> str:
    r"""`Q: … A: …\nQ: question`; without earlier turns the question as it is.

    White space within a turn becomes a single space, so that a line is a turn.
    """
    if not history:
        return question
    said = [f"{ASKS} {_single(asked)} {ANSWERS} {_single(answered)}" for asked, answered in history]
    return "\n".join([*said, f"{ASKS} {_single(question)}"])


def latest(dialogue: str, most: int) -> str:
    """The question that is last in a joined text, and so many of the turns before it."""
    lines = dialogue.strip().splitlines() or [""]
    return "\n".join(lines[max(0, len(lines) - 1 - most) :])


def read(cell: str) -> list[tuple[str, str]]:
    """The turns of a cell, a JSON list of [question, answer]; none of an empty one.

    Raises ValueError with what is wrong with it.
    """
    try:
        found = json.loads(cell) if cell.strip() else []
    except (ValueError, RecursionError):
        raise ValueError(f"has earlier turns that are no JSON: {cell[:40]!r}") from None
    if not isinstance(found, list) or not all(_is_turn(one) for one in found):
        raise ValueError(f"has earlier turns that are no list of [question, answer]: {cell[:40]!r}")
    return [(asked, answered) for asked, answered in found]


def _is_turn(one: object) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(isinstance(words, str) for words in one)


def _single(text: str) -> str:
    return " ".join(text.split())
