"""A request's body → one raw sample: multipart or JSON, read in pieces, each part within its budget."""

import asyncio
import base64
import json
import re

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from mmpipe.media import text
from mmpipe.predict import Sample
from mmpipe.serve.body import Body, check_declared, too_large
from mmpipe.serve.limits import Limits
from mmpipe.serve.refused import Refused

FIELDS = ("image", "text", "audio")
KEYS = {"image_base64": "image", "text": "text", "audio_base64": "audio"}
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()


async def read(request: Request, body: Body, limits: Limits) -> Sample:
    """The sample that a request holds; None = not given, an empty text is none.

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
    return _sample(parts, limits)


def _sample(parts: dict[str, bytes], limits: Limits) -> Sample:
    for name, data in parts.items():
        most = limits.max_text_bytes if name == "text" else limits.max_file_bytes
        if len(data) > most:
            raise too_large(name, most)
        if not data and name != "text":
            raise Refused("file-empty", f"{name} is empty (0 bytes)")
    words = text.decode(parts["text"]) if "text" in parts else ""
    return Sample(image=parts.get("image"), text=words or None, audio=parts.get("audio"))


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
        _check_name(self._name, FIELDS, self.parts)
        self.parts[self._name] = bytearray()
        if options.get(b"filename") == b"":
            self.unchosen.add(self._name)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        most = self._limits.max_text_bytes if self._name == "text" else self._limits.max_file_bytes
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
        members = _flat_object(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused("http-body", f"is no UTF-8 at byte {error.start}") from None
    finally:
        data.clear()
    given = {KEYS[key]: value for key, value in members.items() if value is not None}
    return {
        name: value.encode("utf-8", "surrogatepass") if name == "text" else _decoded(name, value)
        for name, value in given.items()
    }


def _flat_object(words: str) -> dict[str, str | None]:
    """A JSON object of texts and nulls; what is nested, or no text, is refused at its first byte."""
    found: dict[str, str | None] = {}
    at = _past("{", words, 0)
    while True:
        key, at = _text(words, at)
        _check_name(key, tuple(KEYS), found)
        at = _past(":", words, at)
        found[key], at = (None, at + 4) if words.startswith("null", at) else _text(words, at)
        at = _skip(words, at)
        if words.startswith("}", at):
            break
        at = _past(",", words, at)
    if (end := _skip(words, at + 1)) < len(words):
        raise Refused("http-body", f"goes on after the JSON object, at character {end}")
    return found


def _text(words: str, at: int) -> tuple[str, int]:
    if not words.startswith('"', at):
        raise Refused("http-body", f"is no JSON object of texts: {words[at : at + 1]!r} at character {at}")
    try:
        value, end = _JSON.raw_decode(words, at)
    except json.JSONDecodeError as error:
        raise Refused("http-body", f"is no JSON at character {error.pos}: {error.msg}") from None
    return value, end


def _past(sign: str, words: str, at: int) -> int:
    at = _skip(words, at)
    if not words.startswith(sign, at):
        got = repr(words[at : at + 1]) if at < len(words) else "the end"
        raise Refused("http-body", f"is no JSON object: {got} at character {at}, not {sign!r}")
    return _skip(words, at + 1)


def _skip(words: str, at: int) -> int:
    space = _SPACE.match(words, at)
    return space.end() if space else at


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise Refused("http-body", f"{name}_base64 is no base64 ({error})") from None


def _check_name(name: str, allowed: tuple[str, ...], taken: object) -> None:
    if name not in allowed:
        raise Refused("http-body", f"has a part named {name[:40]!r}; {', '.join(allowed)} are taken")
    if name in taken:  # type: ignore[operator]
        raise Refused("http-body", f"has two parts named {name!r}")
