"""Prefect's runner, made to outlive its server: nothing that runs is ended or forgotten for that."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.runner import Runner
from prefect.types._datetime import now

from flows import ends
from flows.settings import RUNNER

EVERY_S = 5.0
STARTING = timedelta(seconds=30)
"""A run has so long from its last state to the moment when its own process holds its file."""
_LOST = (httpx.HTTPError, PrefectException, OSError, TimeoutError)
_OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


class SturdyRunner(Runner):
    """Without a server Prefect's own ends after three minutes, with all runs, or hears no cancel again."""

    async def __aenter__(self) -> "SturdyRunner":
        """Look for what is due for ever."""
        os.environ[RUNNER] = str(os.getpid())
        await super().__aenter__()
        poller = self._scheduled_run_poller
        look = poller._get_scheduled_flow_runs

        async def patient() -> list[FlowRun]:
            try:
                return await look()
            except _LOST as error:
                say(f"nothing can be started: the server does not answer ({error or type(error).__name__})")
                return []

        poller._get_scheduled_flow_runs = patient  # type: ignore[method-assign]
        return self

    async def cancel_what_is_to_be(self) -> None:
        """Look for runs to cancel where nobody listens for them any more.

        Prefect's runner listens to the server's events. It gives up after half a minute without a server, and
        at once after a server that went in order.
        """
        observer = self._cancelling_observer
        if observer is None or observer._consumer_task is None or not observer._consumer_task.done():
            return
        look: Callable[[], Awaitable[None]] = observer._check_for_cancelled_flow_runs
        await look()

    def submitted(self) -> set[UUID]:
        """The runs that it is starting or watches."""
        return set(self._scheduled_run_poller._submitting_flow_run_ids)

    def served(self) -> list[UUID]:
        """Its deployments."""
        return list(self._deployment_registry.get_deployment_ids())


@asynccontextmanager
async def tended(runner: SturdyRunner, folder: Path) -> AsyncIterator[None]:
    """While the context lasts, the server learns what became of runs whose process is gone.

    `folder`: where runs keep their ends.
    """
    jobs = partial(_tell, runner, folder), partial(_cancel, runner)
    loops = [asyncio.create_task(_again(job)) for job in jobs]
    for loop in loops:
        loop.add_done_callback(_say_why)
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _again(job: Callable[[], Awaitable[None]]) -> None:
    """For ever; where the server is away, it has to wait."""
    while True:
        await asyncio.sleep(EVERY_S)
        with suppress(*_LOST):
            await job()


def _say_why(loop: asyncio.Task[None]) -> None:
    """A mistake of ours ends a loop, not the scheduler: that would end what runs."""
    if not loop.cancelled() and (error := loop.exception()):
        say(f"internal: what became of runs is told no more: {error!r}")


async def _tell(runner: SturdyRunner, folder: Path) -> None:
    """What became of runs whose process is gone."""
    busy = runner.submitted() if runner.started else set()
    async with get_client(httpx_settings={"timeout": EVERY_S}) as client:  # tries once
        for line in await ends.tell(folder, client, busy=busy):
            say(line)
        if runner.started:
            for line in await _end_lost(runner, folder, client):
                say(line)


async def _cancel(runner: SturdyRunner) -> None:
    if runner.started:
        await runner.cancel_what_is_to_be()


async def _end_lost(runner: SturdyRunner, folder: Path, client: PrefectClient) -> list[str]:
    """Runs that were started here, and whose process went before it could lock a file."""
    before = now("UTC") - STARTING
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=runner.served()),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN)),
        )
    )
    known = runner.submitted() | ends.known(folder)
    lost = [run for run in found if run.id not in known and run.work_pool_name is None]
    late = [run for run in lost if run.state is not None and run.state.timestamp < before]
    return [line for run in late for line in await ends.settle(client, run)]


def say(line: str) -> None:
    """Into the scheduler's log."""
    sys.stderr.write(f"{now('UTC'):%H:%M:%S} {line}\n")
