"""One worker process: strangers' files in over a socket, their features out; it may die of any of them.

Nothing is pickled in either direction, so that a file that took the worker over gains nothing beyond it.
A message is two lengths, a JSON header and the parts whose sizes the header lists.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import SampleError
from mmpipe.features import audio, image
from mmpipe.worker import die_with_parent

_LENGTHS = struct.Struct("!IQ")
_MAX_MESSAGE = 1 << 30
_EXTRACT: dict[str, Callable[..., NDArray[Any]]] = {"audio": audio.extract, "image": image.extract}


def work(channel: socket.socket, memory_bytes: int) -> None:
    """Answer until the server closes its end. `memory_bytes`: what this process may take in all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server sees to Ctrl-C
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    _quieten()
    while True:
        try:
            header, parts = receive(channel)
        except ConnectionError:
            return
        send(channel, *_answer(header["settings"], parts))


def _quieten() -> None:
    """What C libraries say of strangers' files on descriptor 2 goes nowhere; Python's tracebacks stay."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def send(channel: socket.socket, header: dict[str, Any], parts: Sequence[bytes]) -> None:
    """One message. Raises OSError (a TimeoutError, where the channel has a timeout)."""
    words = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    channel.sendall(_LENGTHS.pack(len(words), sum(map(len, parts))) + words)
    for part in parts:
        channel.sendall(part)


def receive(channel: socket.socket, until: float | None = None) -> tuple[dict[str, Any], list[bytes]]:
    """One message: its header and its parts. `until`: on the monotonic clock.

    Raises TimeoutError, ConnectionError where the other end closes, ValueError or KeyError for nonsense.
    """
    words, rest = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size, until))
    if words + rest > _MAX_MESSAGE:
        raise ValueError(f"a message of {words + rest:,} bytes")
    header: dict[str, Any] = json.loads(bytes(_exactly(channel, words, until)))
    body, parts, start = _exactly(channel, rest, until), [], 0
    for size in header["sizes"]:
        parts.append(bytes(body[start : start + size]))
        start += size
    return header, parts


def _exactly(channel: socket.socket, size: int, until: float | None) -> memoryview:
    data, got = memoryview(bytearray(size)), 0
    while got < size:
        if until is not None:
            channel.settimeout(max(1e-3, until - time.monotonic()))
        count = channel.recv_into(data[got:])
        if not count:
            raise ConnectionResetError("closed")
        got += count
    return data


def _answer(
    settings: dict[str, dict[str, Any]], parts: Sequence[bytes]
) -> tuple[dict[str, Any], list[bytes]]:
    """`settings`: {modality: keyword arguments of its extractor}, in the order of the parts."""
    try:
        found: list[NDArray[Any]] = [
            _EXTRACT[m](data, **own) for (m, own), data in zip(settings.items(), parts, strict=True)
        ]
    except SampleError as error:
        return {"code": error.code, "what": error.what}, []
    kinds = [[feature.dtype.str, feature.shape] for feature in found]
    return {"kinds": kinds}, [np.ascontiguousarray(feature).tobytes() for feature in found]
