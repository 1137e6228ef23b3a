"""Mapping a function over shards in worker processes, where a death costs one item and not the run.

The parent watches pipes and process sentinels, so it sleeps while nothing happens. Before each item a worker
notes its index and the time in shared memory: a death is blamed on the right item, a hang ends in due time.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from mmpipe.errors import MmpipeError, UsageError
from mmpipe.worker import NOT_BEGUN, Beat, Raised, work

__all__ = ["Beat", "Dead", "Done", "crew", "forked", "run", "without_main_module", "worker_count"]

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = "MMPIPE_WORKERS"
"""Environment variable with the number of worker processes: the machine's choice, never a parameter."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "RAYON_NUM_THREADS": "1",
}
"""Each worker computes in one thread: so many processes as cores beat spinning threads."""


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """The function returned `result` for `items`, which are a shard or, after a death, a part of one."""

    items: Sequence[Item]
    result: Result


@dataclass(frozen=True)
class Dead(Generic[Item]):
    """The item ended its worker twice, the second time alone. `code` and `what` as in SampleError."""

    item: Item
    code: str
    what: str


def worker_count() -> int:
    """MMPIPE_WORKERS, else the number of cores this process may use."""
    words = os.environ.get(WORKERS, "")
    if not words:
        return len(os.sched_getaffinity(0))
    if not words.isdecimal() or int(words) < 1:
        raise UsageError("usage", f"{WORKERS} is {words!r}, not a number from 1", fix=f"unset {WORKERS}")
    return int(words)


def run(
    function: Callable[[Sequence[Item], Beat], Result],
    shards: Sequence[Sequence[Item]],
    *,
    workers: int | None = None,
    timeout_s: float,
    preload: Sequence[str] = (),
) -> Iterator[Done[Item, Result] | Dead[Item]]:
    """Yield an outcome for every item of every shard, in the order in which shards finish.

    `function(items, beat)` is picklable (top level, or a partial of one) and calls `beat(i)` before item i.
    `timeout_s` is the budget between two beats; after `beat(len(items))` what is left (writing) has none. Its
    exceptions are raised here. Items that end their worker are tried again at the end, one at a time while
    nothing else runs. `preload` names the modules that workers start with.
    """
    with crew(function, workers=workers, timeout_s=timeout_s, preload=preload) as mapped:
        yield from mapped(shards)


@contextmanager
def crew(
    function: Callable[[Sequence[Item], Beat], Result],
    *,
    workers: int | None = None,
    timeout_s: float,
    preload: Sequence[str] = (),
) -> Iterator[Callable[[Sequence[Sequence[Item]]], Iterator[Done[Item, Result] | Dead[Item]]]]:
    """Yield what maps shards as `run` does, one call after another; its workers stay until the end."""
    made = _Crew(function, workers or worker_count(), timeout_s, preload)
    try:
        yield made.outcomes
    finally:
        for worker in made.workers:
            worker.kill()


@dataclass(frozen=True)
class _Task:
    items: Sequence[Any]
    retry: bool = False


class _Worker:
    """One process, its pipe and its heartbeat: [index of the item, monotonic time]."""

    def __init__(self, context: ForkServerContext, function: bytes) -> None:
        self.pipe, theirs = context.Pipe()
        self.beat = context.RawArray("d", [NOT_BEGUN, 0.0])
        arguments = (theirs, function, self.beat, str(Path.cwd()))
        self.process = context.Process(target=work, args=arguments, daemon=True)
        with without_main_module():
            self.process.start()
        theirs.close()
        self.task: _Task | None = None
        self.tried = False
        self.overdue = False

    def give(self, task: _Task) -> None:
        self.task = task
        self.beat[0] = NOT_BEGUN
        try:
            self.pipe.send(task.items)
        except BrokenPipeError:
            return  # it died while idle: its sentinel tells

    def deadline(self, timeout_s: float) -> float:
        """When to look again: time is counted once the worker has begun, and not after its last item."""
        counted = self.task is not None and NOT_BEGUN < self.beat[0] < len(self.task.items)
        return (self.beat[1] if counted else time.monotonic()) + timeout_s

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


class _Crew:
    """The workers, what is to be done, and the rules of who does it."""

    def __init__(self, function: Any, count: int, timeout_s: float, preload: Sequence[str]) -> None:
        self.function = pickle.dumps(function)
        self.count = count
        self.timeout_s = timeout_s
        self.preload = preload
        self.pending: deque[_Task] = deque()
        self.suspects: deque[_Task] = deque()
        self.workers: list[_Worker] = []

    def outcomes(self, shards: Sequence[Sequence[Any]]) -> Iterator[Done[Any, Any] | Dead[Any]]:
        """All of these shards, one after another."""
        self.pending.extend(_Task(shard) for shard in shards if shard)
        while self.hand_out():
            for worker in self.wait():
                outcome = self.attend(worker)
                if outcome is not None:
                    yield outcome

    def hand_out(self) -> bool:
        """Give tasks to idle workers, starting them as needed; False when all is done."""
        while self.pending and (worker := self._idle()):
            worker.give(self.pending.popleft())
        busy = any(worker.task for worker in self.workers)
        if self.suspects and not busy and (worker := self._idle()):
            worker.give(self.suspects.popleft())
            busy = True
        return busy

    def _idle(self) -> _Worker | None:
        for worker in self.workers:
            if worker.task is None:
                return worker
        if len(self.workers) == self.count:
            return None
        self.workers.append(_Worker(forked(self.preload), self.function))
        return self.workers[-1]

    def wait(self) -> list[_Worker]:
        """Sleep until a worker answers, ends or is overdue; those, the overdue ones killed."""
        nearest = min(worker.deadline(self.timeout_s) for worker in self.workers if worker.task)
        handles = [handle for worker in self.workers for handle in (worker.pipe, worker.process.sentinel)]
        ready = connection.wait(handles, timeout=max(0.0, nearest - time.monotonic()))
        found = [w for w in self.workers if w.pipe in ready or w.process.sentinel in ready]
        for worker in self.workers:
            if worker.task and worker not in found and worker.deadline(self.timeout_s) <= time.monotonic():
                worker.overdue = True
                worker.process.kill()
                found.append(worker)
        return found

    def attend(self, worker: _Worker) -> Done[Any, Any] | Dead[Any] | None:
        """Take a worker's answer, or see to its death."""
        try:
            answer = worker.pipe.recv() if worker.overdue is False and worker.pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        if isinstance(answer, Raised):
            raise answer.restored()
        if answer is None:
            return self._bury(worker)
        task, worker.task, worker.tried = worker.task, None, True
        assert task is not None
        return Done(task.items, answer[0])

    def _bury(self, worker: _Worker) -> Dead[Any] | None:
        """Remove a dead worker; split its shard at the item it died of, or give that item up."""
        worker.process.join()
        task, index = worker.task, int(worker.beat[0])
        code, what = _cause(worker, self.timeout_s)
        self.workers.remove(worker)
        worker.kill()
        if task is None:
            return None
        if index == NOT_BEGUN:
            if not worker.tried:
                raise MmpipeError("worker-start", f"a worker process cannot start: {what}")
            self.pending.appendleft(task)
            return None
        index = min(index, len(task.items) - 1)
        if task.retry:
            return Dead(task.items[index], code, what)
        parts = (task.items[index + 1 :], task.items[:index])
        self.pending.extendleft(_Task(part) for part in parts if part)
        self.suspects.append(_Task(task.items[index : index + 1], retry=True))
        return None


def _cause(worker: _Worker, timeout_s: float) -> tuple[str, str]:
    """Code and words for the end of a process."""
    if worker.overdue:
        return "worker-timeout", f"took longer than {timeout_s:g} s"
    status = worker.process.exitcode or 0
    if status < 0:
        hint = " (out of memory?)" if -status == signal.SIGKILL else ""
        return "worker-died", f"the worker process was ended by {signal.Signals(-status).name}{hint}"
    return "worker-died", f"the worker process ended with status {status}"


def forked(preload: Sequence[str]) -> ForkServerContext:
    """A fork server whose workers compute in one thread; a process's first call decides what it preloads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


@contextmanager
def without_main_module() -> Iterator[None]:
    """Workers need nothing of the main module: spare each of them importing it, and all it imports."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
