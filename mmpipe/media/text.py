"""Bytes or a table's cell → text, or a coded refusal.

Policy: UTF-8 only; a byte order mark is dropped; white space, case, line ends, bidirectional controls and
combining marks stay as they are (`warnings` names the odd ones); text of white space alone is no text.
"""

from mmpipe.errors import SampleError

MAX_CHARS = 100_000
"""Default budget of `decode` and `check`."""

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MAX_COMBINING = 8


def decode(data: bytes, *, max_chars: int = MAX_CHARS) -> str:
    """Strict UTF-8 → text. Raises SampleError `text-encoding` with the byte offset, or as `check` does."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = " (UTF-16?)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        byte = data[error.start]
        raise SampleError(
            "text-encoding", f"not UTF-8{kind}: byte 0x{byte:02x} at offset {error.start}"
        ) from None
    return check(text.removeprefix("\ufeff"), max_chars=max_chars)


def check(text: str, *, max_chars: int = MAX_CHARS) -> str:
    """The text itself, if it is allowed. Raises SampleError `text-control` or `text-too-long`."""
    if len(text) > max_chars:
        raise SampleError("text-too-long", f"{len(text):,} characters, {max_chars:,} are allowed")
    at = text.find("\0")
    if at >= 0:
        raise SampleError("text-control", f"holds NUL at byte offset {_offset(text, at)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        offset = _offset(text, error.start)
        raise SampleError("text-control", f"holds a lone surrogate at byte offset {offset}") from None
    return text


def warnings(text: str) -> list[str]:
    """What is odd in an allowed text: bidirectional controls, piles of combining marks."""
    found = []
    if not _BIDI.isdisjoint(text):
        found.append("text: bidirectional control characters")
    if _combining_run(text) > _MAX_COMBINING:
        found.append(f"text: more than {_MAX_COMBINING} combining marks in a row")
    return found


def _combining_run(text: str) -> int:
    """Length of the longest run of U+0300..U+036F."""
    if text.isascii():
        return 0
    longest = run = 0
    for letter in text:
        run = run + 1 if "\u0300" <= letter <= "\u036f" else 0
        longest = max(longest, run)
    return longest


def _offset(text: str, at: int) -> int:
    return len(text[:at].encode("utf-8", "surrogatepass"))
