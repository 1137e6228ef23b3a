"""Worker processes that turn uploads into features; a death or a hang costs one request, and is replaced."""

import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpipe.errors import FIXES, SampleError
from mmpipe.executors import forked, without_main_module
from mmpipe.serve import decoder

Features = dict[str, NDArray[Any]]
Settings = Mapping[str, dict[str, Any]]


class Decoders:
    """`count` processes. `lost` is told the code of each that had to be replaced."""

    def __init__(
        self,
        count: int,
        *,
        timeout_s: float,
        memory_bytes: int,
        lost: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._lost = lost
        self._context = forked([decoder.__name__])
        self._lock = threading.Lock()
        self._closed = False
        self._living: set[_Worker] = set()
        self._idle = deque(self._start() for _ in range(count))
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")

    @property
    def pids(self) -> list[int]:
        """The processes there are."""
        with self._lock:
            return sorted(worker.pid for worker in self._living)

    def extract(self, files: Mapping[str, bytes], settings: Settings) -> Future[Features]:
        """{modality: feature} of one request's files. `settings`: keyword arguments of the extractors.

        The future raises SampleError; `worker-died` and `worker-timeout` are among its codes. A future that
        is cancelled before its turn costs nothing.
        """
        return self._threads.submit(self._extract, dict(files), {m: settings[m] for m in files})

    def close(self) -> None:
        """End all processes; what waits is cancelled, what is under way fails."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for worker in self._living:
                worker.end()
        self._threads.shutdown()  # each thread buries its own: only one may wait for a process
        for worker in self._living:
            worker.kill()
        self._living.clear()

    def _extract(self, files: dict[str, bytes], settings: Settings) -> Features:
        worker = self._take()
        try:
            found = worker.ask(files, settings, self._timeout_s)
        except (OSError, ValueError, KeyError, TypeError) as error:  # gone, late, or talking nonsense
            raise self._bury(worker, error) from None
        except SampleError:
            self._idle.append(worker)
            raise
        self._idle.append(worker)
        return found

    def _take(self) -> "_Worker":
        """An idle worker that lives, or a new one: there is never more than one a thread."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive():
                return worker
            self._bury(worker, ConnectionResetError())
        return self._start()

    def _start(self) -> "_Worker":
        with self._lock:  # the main module is hidden meanwhile: one at a time
            if self._closed:
                raise SampleError("worker-died", "the server is stopping")
            worker = _Worker(self._context, self._memory_bytes)
            self._living.add(worker)
        return worker

    def _bury(self, worker: "_Worker", error: Exception) -> SampleError:
        """Why it is no more."""
        fault = worker.fault(error, self._timeout_s)
        with self._lock:
            self._living.discard(worker)
        self._lost(fault.code)
        return fault


class _Worker:
    """One process and the socket to it."""

    def __init__(self, context: ForkServerContext, memory_bytes: int) -> None:
        self._channel, theirs = socket.socketpair()
        self._process = context.Process(target=decoder.work, args=(theirs, memory_bytes), daemon=True)
        with without_main_module():
            self._process.start()
        theirs.close()
        self.pid: int = self._process.pid or 0

    def ask(self, files: Mapping[str, bytes], settings: Settings, timeout_s: float) -> Features:
        """Raises SampleError; OSError where the process is gone or late; others where it talks nonsense."""
        until = time.monotonic() + timeout_s
        self._channel.settimeout(timeout_s)
        decoder.send(self._channel, {"settings": settings}, list(files.values()))
        header, parts = decoder.receive(self._channel, until)
        if "code" in header and header["code"] in FIXES:
            raise SampleError(header["code"], header["what"])
        return {
            m: np.frombuffer(part, kind).reshape(shape)
            for m, (kind, shape), part in zip(files, header["kinds"], parts, strict=True)
        }

    def alive(self) -> bool:
        return self._process.is_alive()

    def fault(self, error: Exception, timeout_s: float) -> SampleError:
        """End it, and say why."""
        if isinstance(error, TimeoutError):
            self.kill()
            return SampleError("worker-timeout", f"took longer than {timeout_s:g} s to decode")
        self._process.join(1.0)  # it is dying: let its own status be told
        status = self.kill()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return SampleError("worker-died", f"the process that decoded it {how}")

    def end(self) -> None:
        """Have it ended, by whatever thread."""
        self._process.kill()

    def kill(self) -> int:
        """End it; its exit status, negative for a signal."""
        self._process.kill()
        self._process.join()
        self._channel.close()
        return self._process.exitcode or 0
