"""Text from strangers, made harmless for a terminal."""


def printable(text: str, *, keep: str = "") -> str:
    """Control characters, escapes and bidirectional marks as `\\x1b`, `\\u202e`, but for those in `keep`."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )
