"""What runs came to, in files until the server knows it; each run locks its file, so a dead one is seen."""

import fcntl
import json
import os
import time
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound

from mmpipe.files import write_bytes

SETTLED_S = 10.0
"""So long after a run's end what it told the server itself has arrived there."""
GONE = "Its process is gone."
SILENT = "No sign of life"
"""How an automation begins its word about a run that it takes for dead, as after a server was away."""
_LIVE, _END = ".live", ".json"
_GOING_ON = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_HELD: dict[UUID, IO[str]] = {}


@dataclass(frozen=True)
class End:
    """`type`: one of Prefect's final ones."""

    type: str
    name: str
    message: str = ""


def hold(folder: Path, run: UUID) -> Path:
    """Lock the file of a run until `let_go` or the end of this process; → where to `keep` its end.

    The lock outlives the flow's own function: the engine tells the server after that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _HELD[run] = (folder / f"{run}{_LIVE}").open("w")
    fcntl.flock(_HELD[run], fcntl.LOCK_EX)
    return folder / f"{run}{_END}"


def let_go(run: UUID) -> None:
    """Unlock it: what the run came to has been told, or never will be by this process."""
    if file := _HELD.pop(run, None):
        file.close()


def keep(path: Path, end: End) -> None:
    """Write what a run came to."""
    write_bytes(path, json.dumps(asdict(end)).encode())


def known(folder: Path) -> set[UUID]:
    """The runs that have a file: they live, or what they came to is still to be told."""
    return {UUID(path.stem) for path in folder.glob(f"*{_LIVE}")}


async def tell(folder: Path, client: PrefectClient, *, busy: AbstractSet[UUID] = frozenset()) -> list[str]:
    """Tell the server what dead runs came to, and which live; → a line for each that it did not know.

    `busy`: runs whose end somebody else tells of. Raises what the client raises.
    """
    told = []
    for run in known(folder):
        live, path = folder / f"{run}{_LIVE}", folder / f"{run}{_END}"
        if not _free(live):
            with suppress(ObjectNotFound):
                told += await _revive(client, await client.read_flow_run(run))
            continue
        if run in busy:
            continue
        if time.time() - max(one.stat().st_mtime for one in (live, path) if one.exists()) < SETTLED_S:
            continue
        end = End(**json.loads(path.read_bytes())) if path.exists() else None
        with suppress(ObjectNotFound):  # a person has deleted it there
            told += await settle(client, await client.read_flow_run(run), end)
        live.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return told


async def settle(client: PrefectClient, run: FlowRun, end: End | None = None) -> list[str]:
    """Give a run whose process is gone its final state; without an end it is Crashed, or Cancelled.

    A state that is final already stays, but for a Crashed that its end contradicts.
    """
    state = run.state
    if state is None:
        return []
    if state.is_final() and not (state.is_crashed() and end):
        await _finish_tasks(client, run.id, state.type)
        return []
    if end is None:
        word = StateType.CANCELLED if state.is_cancelling() else StateType.CRASHED
        end = End(word.value, word.value.capitalize(), GONE)
    final = State(type=StateType(end.type), name=end.name, message=end.message)
    await _finish_tasks(client, run.id, final.type)  # first: whoever sees the run's end sees theirs
    await client.set_flow_run_state(run.id, final, force=True)
    return [f"run {run.name} is {end.name}, not {state.name}: {end.message}"]


async def _revive(client: PrefectClient, run: FlowRun) -> list[str]:
    state = run.state
    if state is None or not state.is_crashed() or not (state.message or "").startswith(SILENT):
        return []
    running = State(type=StateType.RUNNING, name="Running", message="It lives: the server was away.")
    await client.set_flow_run_state(run.id, running, force=True)
    return [f"run {run.name} lives"]


async def _finish_tasks(client: PrefectClient, run: UUID, ended: StateType) -> None:
    """Task runs whose last states did not arrive."""
    going = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_GOING_ON)))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    done = ended == StateType.COMPLETED
    word = StateType.COMPLETED if done else StateType.CRASHED
    message = "Its state did not arrive: the server was away." if done else GONE
    for task in await client.read_task_runs(flow_run_filter=of_run, task_run_filter=going):
        state = State(type=word, name=word.value.capitalize(), message=message)
        await client.set_task_run_state(task.id, state, force=True)


def _free(path: Path) -> bool:
    """Whether no process holds the lock of a file; a dead one cannot."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # somebody else has just told
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
