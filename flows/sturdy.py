"""A flow that does its work whether or not the server is there: at its start, in mid-run, and at its end."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.settings import PREFECT_API_URL
from prefect.states import Failed

from flows import ends
from flows.ends import End
from flows.settings import Place
from flows.speaking import logger
from mmpipe.errors import MmpipeError
from mmpipe.stages import process

PATIENCE_S = 60.0
"""For a server that is away when the work is done; `mmpipe ui` has its own again within 20 s."""
ANSWER_S, LOOK_S = 5.0, 10.0
TOLD_S, STOPPED_S = 90.0, 20.0
"""For the engine's last words to the server after its work, and after SIGTERM; then the process just ends."""
_OF_A_RUNNER = "PREFECT__FLOW_RUN_ID"
_ALONE: list[bool] = []
"""Not empty where this process is for one run only, by its command line."""
_GIVEN_UP: set[UUID | None] = set()
"""Runs that have waited for the server in vain."""
Work = Callable[..., Awaitable[Any]]


class AwayError(Abort):
    """The work is done, and nobody is there to be told: Prefect's engine lets it pass and reports nothing."""

    def __init__(self, value: Any, error: Exception | None) -> None:
        super().__init__("the server is away")
        self.value = value
        self.error = error


class SturdyFlow(Flow[..., Any]):
    """Called where no server answers, it runs its function without an engine; a lost server is no failure.

    `away`: whether that was so in the last call.
    """

    away = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A coroutine with what the function returns; raises what the function raises."""
        return self._here(*args, **kwargs)

    async def _here(self, *args: Any, **kwargs: Any) -> Any:
        self.away = not await answers()
        if self.away:
            logger().warning("no server answers at %s: the run goes without", PREFECT_API_URL.value())
            return await self.fn(*args, **kwargs)
        try:
            return await super().__call__(*args, **kwargs)
        except AwayError as away:
            self.away = True
            if away.error is not None:
                raise away.error from None
            return away.value


def by_itself(flow: SturdyFlow) -> NoReturn:
    """Run it as the whole of this process, which ends with 0, or as `stages.process.status` says."""
    _ALONE.append(True)
    logging.getLogger("flows").setLevel(logging.INFO)
    status = process.status(lambda: asyncio.run(flow()))
    if flow.away:
        leave(status)
    sys.exit(status)


def sturdy(name: str) -> Callable[[Work], SturdyFlow]:
    """`@flow(name=…)` of an async function, with all that this module promises."""
    return lambda function: SturdyFlow(_noted(function), name=name, persist_result=False)


async def answers(timeout_s: float = ANSWER_S) -> bool:
    """Whether the server is there."""
    if not PREFECT_API_URL.value():
        return False
    async with get_client(httpx_settings={"timeout": timeout_s}) as client:  # one that never tries again
        with suppress(TimeoutError):
            return await asyncio.wait_for(client.api_healthcheck(), timeout_s) is None
    return False


async def waited() -> bool:
    """Whether the server is there, after waiting for it once in a run, at its end."""
    context = FlowRunContext.get()
    run = context.flow_run.id if context and context.flow_run else None
    clock = asyncio.get_running_loop().time
    until = clock() + (0 if run in _GIVEN_UP else PATIENCE_S)
    while not await answers():
        if clock() >= until:
            _GIVEN_UP.add(run)
            return False
        await asyncio.sleep(1.0)
    return True


def leave(status: int) -> NoReturn:
    """End the process without Prefect's last words, which nobody hears: they take minutes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _noted(function: Work) -> Work:
    """The function, and what it came to in a file, in case the engine finds no server to tell it to."""

    @wraps(function)
    async def noted(*args: Any, **kwargs: Any) -> Any:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return await function(*args, **kwargs)
        run = context.flow_run.id
        path = ends.hold(Place(Path.cwd()).runs, run)
        looking = asyncio.create_task(_look())
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            if sys.is_finalizing():  # it was ended, and fails for that only now
                raise
            if isinstance(error, Exception):
                ends.keep(path, End("FAILED", "Failed", str(error)))
                await _told(run, None, error)
                if isinstance(error, MmpipeError) and _OF_A_RUNNER in os.environ:
                    return Failed(message=str(error))  # raised, the engine would print our code's lines too
            else:
                _end_within(STOPPED_S, 143)
            raise
        finally:
            looking.cancel()
        ends.keep(path, _end(value))
        await _told(run, value, None)
        return value

    return noted


async def _told(run: UUID, value: Any, error: Exception | None) -> None:
    """Return if the server is there to be told; else the file has to do."""
    if await waited():
        _end_within(TOLD_S, 0)
        return
    logger().warning("the server is away: it is told what this run came to when it is back")
    if _OF_A_RUNNER in os.environ:
        leave(0)  # whatever became of it is in the file; a runner takes any other status for a crash
    ends.let_go(run)
    raise AwayError(value, error)


def _end_within(seconds: float, status: int) -> None:
    """A run's own process does not outlive it by more: a server that goes now would hold it for minutes."""
    if _OF_A_RUNNER in os.environ or _ALONE:
        timer = threading.Timer(seconds, leave, (status,))
        timer.daemon = True
        timer.start()


async def _look() -> None:
    """Say when the server goes, and when it is back."""
    there = True
    while True:
        await asyncio.sleep(LOOK_S)
        if (now := await answers()) != there:
            there = now
            logger().warning(
                "the server answers again" if now else "the server does not answer: the run goes on"
            )


def _end(value: Any) -> End:
    """As the engine would report it."""
    if isinstance(value, State):
        return End(value.type.value, value.name or "", value.message or "")
    return End("COMPLETED", "Completed")
