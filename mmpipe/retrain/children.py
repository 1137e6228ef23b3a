"""Programs in process groups of their own: their lines as they come; cancelled, none of them survives."""

import asyncio
import codecs
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from mmpipe.processes import alive

Say = Callable[[str], object]
"""Told each line, without its end."""
PATIENCE_S = 8.0
"""From SIGTERM to SIGKILL: a training saves its state within 5 s."""
MAX_LINE = 10_000
"""Characters; a longer line comes in pieces."""
_EOF_S = 10.0
_POLL_S = 0.05


async def stream(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    say: Say,
    output: Path | None = None,
) -> int:
    """Run a program to its end and return its exit status (negative: the signal that ended it).

    `output`: a file for what it prints, so that only its stderr is told. Cancelled, it ends the program's
    whole group: SIGTERM, after `PATIENCE_S` SIGKILL; only then it is over.
    """
    pipe = asyncio.subprocess.PIPE
    with output.open("wb") if output else nullcontext() as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file or pipe,
            stderr=pipe if file else asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return await _finish(process, say)
    finally:
        await end(process.pid, patience_s=PATIENCE_S)
        await process.wait()


async def end(group: int, *, patience_s: float) -> None:
    """SIGTERM to all of a group, after `patience_s` SIGKILL; returns when none of them lives.

    Cancelled in between, it kills at once.
    """
    until = time.monotonic() + patience_s
    try:
        if members(group):
            os.killpg(group, signal.SIGTERM)
        while members(group) and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
    except ProcessLookupError:
        return
    finally:
        kill(members(group))


def kill(pids: Sequence[int]) -> None:
    """SIGKILL to each, and a moment for the kernel to take them away."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 1
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)


def members(group: int) -> list[int]:
    """The living processes of a group; one that only waits to be reaped is none."""
    return [pid for pid in _pids() if _group(pid) == group and alive(pid)]


def marked(variable: str, value: str) -> list[int]:
    """The living processes that were started with this variable in their environment."""
    wanted = f"{variable}={value}".encode()
    return [pid for pid in _pids() if wanted in _environment(pid) and alive(pid)]


async def _finish(process: asyncio.subprocess.Process, say: Say) -> int:
    """Its exit status, when all is read; a survivor that keeps the pipe open is not waited for."""
    reader = process.stdout or process.stderr
    assert reader is not None
    reading = asyncio.create_task(_read(reader, say))
    try:
        status = await process.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(reading, _EOF_S)
        return status
    finally:
        reading.cancel()


async def _read(reader: asyncio.StreamReader, say: Say) -> None:
    """Cut at line ends and carriage returns, as progress bars write them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := await reader.read(65_536):
        *lines, rest = (rest + decoder.decode(chunk)).replace("\r", "\n").split("\n")
        for line in lines:
            for start in range(0, len(line), MAX_LINE):
                say(line[start : start + MAX_LINE])
        while len(rest) > MAX_LINE:
            say(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
    if rest:
        say(rest)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []
