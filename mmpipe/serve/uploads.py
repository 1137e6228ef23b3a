"""A request's body → one raw sample: multipart or JSON, read in pieces, each part within its budget."""

import asyncio
import base64
from dataclasses import dataclass

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from mmpipe.answers import turns
from mmpipe.media import text
from mmpipe.predict import Sample
from mmpipe.serve import members
from mmpipe.serve.body import Body, check_declared, too_large
from mmpipe.serve.limits import Limits
from mmpipe.serve.members import HISTORY
from mmpipe.serve.refused import Refused

FIELDS = ("image", "text", "audio", HISTORY)
WORDS = ("text", HISTORY)
"""Those that are no files."""
KEYS = {"image_base64": "image", "text": "text", "audio_base64": "audio", HISTORY: HISTORY}


@dataclass(frozen=True)
class Upload:
    """A raw sample, and the turns of the dialogue in which its text is the next question."""

    sample: Sample
    history: turns.Turns = ()

    @property
    def dialogue(self) -> str | None:
        """The text behind its earlier turns."""
        return self.sample.text and turns.join(self.history, self.sample.text)


async def read(request: Request, body: Body, limits: Limits) -> Upload:
    """What a request holds; None = not given, an empty text is none.

    Raises Refused `http-media`, `http-body`, `http-too-large`, `http-slow` or `file-empty`, and SampleError
    for a text that is none.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    try:
        async with asyncio.timeout(limits.upload_s):
            if kind == b"multipart/form-data":
                parts = await _multipart(request, body, options.get(b"boundary", b""), limits)
            elif kind == b"application/json":
                parts = await _json(request, body, limits)
            else:
                named = kind.decode("latin-1")[:100]
                raise Refused("http-media", f"the body is {named!r}, not multipart/form-data or JSON")
    except TimeoutError:
        what = f"{body.total:,} bytes came in {limits.upload_s:g} s and more were to follow"
        raise Refused("http-slow", what) from None
    return _upload(parts, limits)


def _upload(parts: dict[str, bytes], limits: Limits) -> Upload:
    for name, data in parts.items():
        most = limits.max_text_bytes if name in WORDS else limits.max_file_bytes
        if len(data) > most:
            raise too_large(name, most)
        if not data and name not in WORDS:
            raise Refused("file-empty", f"{name} is empty (0 bytes)")
    words = text.decode(parts["text"]) if "text" in parts else ""
    history = _history(parts[HISTORY], limits) if HISTORY in parts else ()
    if history and not words.strip():
        raise Refused("http-body", f"{HISTORY} needs text, the question that comes next")
    return Upload(Sample(image=parts.get("image"), text=words or None, audio=parts.get("audio")), history)


def _history(data: bytes, limits: Limits) -> turns.Turns:
    try:
        found = turns.read(text.decode(data, max_chars=limits.max_text_bytes))
    except ValueError as error:
        raise Refused("http-body", f"{HISTORY} {error}") from None
    members.check_turns(len(found), limits.max_turns)
    return found


async def _multipart(request: Request, body: Body, boundary: bytes, limits: Limits) -> dict[str, bytes]:
    if not boundary:
        raise Refused("http-body", "multipart/form-data without a boundary")
    check_declared(request, limits.max_multipart_bytes)
    form = _Form(limits)
    try:
        parser = form.parser(boundary)
        while piece := await body.piece(limits.max_multipart_bytes):
            parser.write(piece)
        if not form.ended:
            raise Refused("http-body", "ends early: the closing boundary is missing")
        return {name: bytes(data) for name, data in form.parts.items() if data or name not in form.unchosen}
    except FormParserError as error:
        raise Refused("http-body", f"is no multipart/form-data ({error})") from None
    finally:
        form.parts.clear()  # at once, and not when the last that refers to them is gone


class _Form:
    """The parts of a multipart body, growing as a parser calls back.

    `unchosen`: parts with an empty file name, as browsers send where no file was chosen.
    """

    def __init__(self, limits: Limits) -> None:
        self.parts: dict[str, bytearray] = {}
        self.unchosen: set[str] = set()
        self.ended = False
        self._limits = limits
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._name = ""

    def parser(self, boundary: bytes) -> MultipartParser:
        """What is written to it arrives here. Raises FormParserError for an odd boundary."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_end": self._on_end,
            },
        )

    def _begin(self) -> None:
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        members.check_name(self._name, FIELDS, self.parts)
        self.parts[self._name] = bytearray()
        if options.get(b"filename") == b"":
            self.unchosen.add(self._name)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        most = self._limits.max_text_bytes if self._name in WORDS else self._limits.max_file_bytes
        if len(part) + end - start > most:
            raise too_large(self._name, most)
        part += data[start:end]

    def _on_end(self) -> None:
        self.ended = True


async def _json(request: Request, body: Body, limits: Limits) -> dict[str, bytes]:
    check_declared(request, limits.max_json_bytes)
    data = bytearray()
    try:
        while piece := await body.piece(limits.max_json_bytes):
            data += piece
        found = members.read(data.decode("utf-8"), KEYS, most_turns=limits.max_turns)
    except UnicodeDecodeError as error:
        raise Refused("http-body", f"is no UTF-8 at byte {error.start}") from None
    finally:
        data.clear()
    given = {KEYS[key]: value for key, value in found.items() if value is not None}
    return {
        name: value.encode("utf-8", "surrogatepass") if name in WORDS else _decoded(name, value)
        for name, value in given.items()
    }


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise Refused("http-body", f"{name}_base64 is no base64 ({error})") from None
