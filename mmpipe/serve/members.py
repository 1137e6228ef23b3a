"""A JSON object of texts, nulls and one dialogue, read strictly: what is nested otherwise costs nothing."""

import json
import re
from collections.abc import Collection, Container

from mmpipe.serve.refused import Refused

HISTORY = "history"
"""The only member that may be a list, of [question, answer]."""
_OBJECT = "is no JSON object of texts"
_TURNS = f"has a {HISTORY} that is no list of [question, answer]"
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()


def read(words: str, names: Collection[str], *, most_turns: int) -> dict[str, str | None]:
    """The members; the dialogue as it is written, which is a list of pairs of texts.

    Raises Refused `http-body` at the first fault and for a name that is none of `names` or comes twice,
    `http-too-large` for more than `most_turns`.
    """
    found: dict[str, str | None] = {}
    at = _past("{", words, 0, _OBJECT)
    while True:
        key, at = _text(words, at, _OBJECT)
        check_name(key, names, found)
        at = _past(":", words, at, _OBJECT)
        found[key], at = _value(key, words, at, most_turns)
        at = _skip(words, at)
        if words.startswith("}", at):
            break
        at = _past(",", words, at, _OBJECT)
    if (end := _skip(words, at + 1)) < len(words):
        raise Refused("http-body", f"goes on after the JSON object, at character {end}")
    return found


def check_name(name: str, allowed: Collection[str], taken: Container[str]) -> None:
    """Raises Refused `http-body` for a part that is not known, or comes again."""
    if name not in allowed:
        raise Refused("http-body", f"has a part named {name[:40]!r}; {', '.join(allowed)} are taken")
    if name in taken:
        raise Refused("http-body", f"has two parts named {name!r}")


def check_turns(count: int, most: int) -> None:
    """Raises Refused `http-too-large`."""
    if count > most:
        raise Refused("http-too-large", f"{HISTORY} has more than the {most:,} turns that are allowed")


def _value(key: str, words: str, at: int, most_turns: int) -> tuple[str | None, int]:
    if words.startswith("null", at):
        return None, at + 4
    if key == HISTORY and words.startswith("[", at):
        end = _past_turns(words, at, most_turns)
        return words[at:end], end
    return _text(words, at, _OBJECT)


def _past_turns(words: str, at: int, most: int) -> int:
    """The place behind a list of pairs of texts."""
    at, count = _past("[", words, at, _TURNS), 0
    while count or not words.startswith("]", at):
        count += 1
        check_turns(count, most)
        at = _past("[", words, at, _TURNS)
        at = _past(",", words, _text(words, at, _TURNS)[1], _TURNS)
        at = _past("]", words, _text(words, at, _TURNS)[1], _TURNS)
        if words.startswith("]", at):
            break
        at = _past(",", words, at, _TURNS)
    return at + 1


def _text(words: str, at: int, kind: str) -> tuple[str, int]:
    if not words.startswith('"', at):
        raise Refused("http-body", f"{kind}: {_got(words, at)} at character {at}")
    try:
        value, end = _JSON.raw_decode(words, at)
    except json.JSONDecodeError as error:
        raise Refused("http-body", f"is no JSON at character {error.pos}: {error.msg}") from None
    return value, end


def _past(sign: str, words: str, at: int, kind: str) -> int:
    at = _skip(words, at)
    if not words.startswith(sign, at):
        raise Refused("http-body", f"{kind}: {_got(words, at)} at character {at}, not {sign!r}")
    return _skip(words, at + 1)


def _got(words: str, at: int) -> str:
    return repr(words[at]) if at < len(words) else "the end"


def _skip(words: str, at: int) -> int:
    space = _SPACE.match(words, at)
    return space.end() if space else at
