"""The body of one request as it arrives: counted, cut off past its budget, never held here."""

from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from mmpipe.serve.refused import Refused


class Body:
    """`take` is told the size of every piece, and may refuse it.

    After a refusal what is still to come is not read here: `protocol` throws it away, for a while.
    """

    def __init__(self, receive: Receive, take: Callable[[int], object] = lambda _: None) -> None:
        self._receive = receive
        self._take = take
        self.total = 0
        self._finished = False

    async def piece(self, most: int) -> bytes:
        """The next piece; empty at the end. `most`: bytes of the whole body.

        Raises Refused `http-too-large`, and ClientDisconnect.
        """
        while not self._finished:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._finished = not message.get("more_body", False)
            if data := bytes(message.get("body", b"")):
                self.total += len(data)
                if self.total > most:
                    raise too_large("the body", most)
                self._take(len(data))
                return data
        return b""


def too_large(name: str, most: int) -> Refused:
    """The refusal of what is larger than allowed."""
    return Refused("http-too-large", f"{name} is larger than the {most:,} bytes that are allowed")


def check_declared(request: Request, most: int) -> None:
    """Refuse a body by its Content-Length, before any of it is read."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large("the body", most)
