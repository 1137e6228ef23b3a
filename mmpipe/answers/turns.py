"""A dialogue as one text: each turn behind a marker, the question that is to be answered last."""

from collections.abc import Sequence

ASKS, ANSWERS = "Q:", "A:"


def join(history: Sequence[tuple[str, str]], question: str, *, most: int | None = None) -> str:
    """`Q: … A: … Q: question`. `history`: (question, answer) of earlier turns, the oldest first.

    `most`: so many of the latest turns are kept. White space within a turn is single.
    """
    kept = history if most is None else history[max(0, len(history) - most) :]
    said = [words for asked, answered in kept for words in (ASKS, _single(asked), ANSWERS, _single(answered))]
    return " ".join([*said, ASKS, _single(question)])


def _single(text: str) -> str:
    return " ".join(text.split())
