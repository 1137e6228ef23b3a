"""Who may ask, by the Host and the token of a request; and what every answer tells browsers."""

import base64
import binascii
import hmac
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmpipe.serve.metrics import Metrics
from mmpipe.serve.refused import GONE, Refused

OPEN = ("/healthz",)
"""Routes that need no token."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cache-Control": "no-store",
}
"""Of every answer, unless a route has set its own."""


class Guard:
    """Wraps an application. `hosts`: names that may be asked for, None = any; `token`: None = none needed."""

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str] | None, token: bytes | None, metrics: Metrics
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), GONE

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused is None:
                await self._app(scope, receive, headed)
            else:
                self._metrics.refused(refused.code)
                await refused.answer()(scope, receive, headed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, status, time.monotonic() - began)

    def _refusal(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host = name_of(headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            return Refused("http-host", f"this server is not {host[:100]!r}")
        site = headers.get("sec-fetch-site", "none")
        if scope["method"] not in ("GET", "HEAD") and site not in ("none", "same-origin"):
            return Refused("http-origin", "a page of another site may not ask")
        if self._token is None or scope["path"] in OPEN:
            return None
        given = token_of(headers)
        if hmac.compare_digest(given, self._token):
            return None
        return Refused("http-token", "the token is wrong" if given else "a token is needed")


def name_of(host: str) -> str:
    """A Host header without its port, in lower case: `[::1]:8000` → `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def token_of(headers: Mapping[str, str]) -> bytes:
    """From `Authorization: Bearer TOKEN`, or the password of `Basic`, which browsers ask for; else empty."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
