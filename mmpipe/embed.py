"""What strangers wrote, drew and said, in a form that is safe inside one HTML page."""

import base64
import re
from pathlib import Path

from mmpipe import files
from mmpipe.errors import SampleError
from mmpipe.media import image, sniff

MAX_BYTES = 100_000_000
MIME = {"WAV": "audio/wav", "FLAC": "audio/flac", "Ogg": "audio/ogg", "MP3": "audio/mpeg"}

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control, bidirectional and zero-width characters; joiners stay, as scripts and emoji need them."""


def visible(text: str, limit: int = 600) -> str:
    """At most `limit` characters, with those that hide or reorder others written out as ⟨U+202E⟩."""
    short = text if len(text) <= limit else text[:limit] + " …"
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", short)


def picture(path: Path, *, side: int) -> str:
    """A small copy of a picture as a data URI. Raises SampleError as reading and decoding do."""
    return _data_uri("image/jpeg", image.thumbnail(files.read_guarded(path, max_bytes=MAX_BYTES), side=side))


def sound(path: Path, *, max_bytes: int) -> str:
    """A recording's own bytes as a data URI, with the type that its bytes have.

    Raises SampleError `file-too-large` past `max_bytes`, and as reading does.
    """
    data = files.read_guarded(path, max_bytes=max_bytes)
    kind = sniff.audio_format(data)
    if kind is None:
        raise SampleError("audio-format", f"looks like {sniff.foreign(data)}")
    return _data_uri(MIME[kind], data)


def _data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
