"""One server process: a socket, the application on it, and an orderly end."""

import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn

from mmpipe.errors import MmpipeError, UsageError
from mmpipe.serve.app import create_app
from mmpipe.serve.current import Current
from mmpipe.serve.limits import Limits
from mmpipe.serve.protocol import timed

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MIN_TOKEN = 16
"""Bytes of the shortest token."""
KEEP_ALIVE_S = 15


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach `host`; of names only `localhost` is believed."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(host: str, token: bytes | None) -> None:
    """Refuse to be reached from elsewhere without a token, and a token that can be guessed."""
    fix = f"give --token-file F or set MMPIPE_TOKEN to at least {MIN_TOKEN} characters, or leave out --host"
    if token is None and not is_loopback(host):
        raise UsageError("usage", f"others can reach {host}, so a token is needed", fix=fix)
    if token is not None and len(token) < MIN_TOKEN:
        raise UsageError("usage", f"the token has {len(token)} characters", fix=fix)


def listen(host: str, port: int) -> socket.socket:
    """Bind, so that what is wrong with the address is known before a model is loaded."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        what = f"cannot listen there ({getattr(error, 'strerror', None) or error})"
        fix = "give another --host or --port"
        raise MmpipeError("system", what, where=f"{host}:{port}", fix=fix) from None
    # asyncio sees to it for sockets of its own making only; else each answer's second packet waits for 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make(current: Current, limits: Limits, *, host: str, token: bytes | None) -> uvicorn.Server:
    """A server for `run([listener])`; SIGTERM and SIGINT let it finish what is under way."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it logs what strangers send
    hosts = LOOPBACK | {host.lower()} if is_loopback(host) else None
    app = create_app(current, limits, hosts=hosts, token=token)
    config = uvicorn.Config(
        app,
        http=timed(limits.head_s),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(limits.stop_s)),
    )
    return uvicorn.Server(config)


def serve(
    current: Current,
    limits: Limits,
    *,
    host: str,
    port: int,
    token: bytes | None,
    ready: Callable[[str], object],
) -> None:
    """Load the model and answer until a signal comes, which then acts as it would have without us.

    `ready` is told the URL once connections are taken. Raises UsageError, and as loading does.
    """
    check_token(host, token)
    with listen(host, port) as listener:
        current.start()
        server = make(current, limits, host=host, token=token)
        ready(url_of(listener))
        server.run([listener])
