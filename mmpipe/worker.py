"""The life of one worker process of `executors`: take items, answer, end with the parent."""

import ctypes
import fcntl
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

Beat = Callable[[int], None]
"""Called with the index of the item that comes next."""
NOT_BEGUN = -1
_PR_SET_PDEATHSIG = 1


class RemoteTraceback(Exception):
    """The worker's traceback, shown as the cause of the exception that is raised again."""


@dataclass(frozen=True)
class Raised:
    """An exception on its way to the parent, with the words of its traceback."""

    error: bytes
    words: str

    def restored(self) -> Exception:
        """The exception, to be raised again."""
        error: Exception = pickle.loads(self.error)  # noqa: S301 (our own worker's)
        error.__cause__ = RemoteTraceback(f"\n{self.words}")
        return error


def work(pipe: "Connection[Any, Any]", function: bytes, beat: Any, folder: str) -> None:
    """Answer each list of items with the function's result in a tuple, until the parent closes the pipe.

    `function` is pickled, so that a module that cannot be imported is an answer too and not a death. `beat`
    is shared memory: [index of the item, monotonic time in seconds]. `folder` is where to work.
    """
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to Ctrl-C
    die_with_parent()

    def note(index: int) -> None:
        beat[1] = time.monotonic()
        beat[0] = index

    while True:
        try:
            items = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        with _Forward(pipe):
            call = pickle.loads(function)  # noqa: S301 (the parent's)
            note(0)
            pipe.send((call(items, note),))


class _Forward:
    """Sends an exception of its block to the parent, which raises it: nothing is swallowed."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self.pipe = pipe

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        words = "".join(traceback.format_exception(kind, error, trace))
        self.pipe.send(Raised(_portable(error), words))
        return True


def _portable(error: Exception) -> bytes:
    """The exception pickled, or one with its words where it does not survive pickling."""
    try:
        pickle.loads(data := pickle.dumps(error))  # noqa: S301 (made on the same line)
    except (TypeError, AttributeError, pickle.PicklingError):
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def die_with_parent() -> None:
    """Have the kernel end this process when its parent, or the fork server between them, is gone.

    The sentinel is a pipe that the parent holds open: its closing raises SIGIO, whose default is to end us.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if wait([parent.sentinel], timeout=0):
        sys.exit("the parent is gone")
