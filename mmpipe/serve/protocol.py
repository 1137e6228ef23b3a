"""A connection of uvicorn's that ends where a request's head takes too long: uvicorn would wait for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def timed(head_s: float) -> type[asyncio.Protocol]:
    """The protocol whose connections have `head_s` seconds for each head, from its first byte.

    The rest of a body that was refused counts as the next head: uvicorn reads it and throws it away, so that
    a client that sends before it listens hears the refusal; but not for ever.
    """

    class Timed(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Time runs while no request is under way, and is not set anew by a few more bytes."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._timer is None:
                self._timer = self.loop.call_later(head_s, self.transport.abort)

        def _unwatch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Timed
