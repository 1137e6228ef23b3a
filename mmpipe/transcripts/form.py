"""The one form in which texts are learnt and compared: lower case, words of letters, digits and apostrophes.

Unicode NFC; letters keep their marks; all else, hyphens too, is a space, and spaces are single.
"""

import unicodedata

_APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")


def normalise(text: str) -> str:
    """The one form of a transcript; empty where it has neither letter nor digit."""
    lower = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    kept = "".join(
        letter if unicodedata.category(letter)[0] in "LMN" or letter == "'" else " "
        for letter in lower.translate(_APOSTROPHES)
    )
    words = (word.strip("'") for word in kept.split())
    return " ".join(word for word in words if word)
