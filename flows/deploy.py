"""The deployments of a workspace, and the one process that serves them: `python -m flows.deploy`."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.schedules import Cron
from prefect.types._datetime import now
from prefect.types.entrypoint import EntrypointType

from flows import alarms
from flows.batch import predict
from flows.drift import drift_check
from flows.proof import reproduce_champion
from flows.retrain import retrain
from flows.runner import SturdyRunner, tended
from flows.settings import WEBHOOK, Place
from flows.watch import watch
from mmpipe import __version__
from mmpipe.processes import alive
from mmpipe.stages.process import run

CLEAN_UP_S = 12.0
"""A stage gets 8 s to end; then its run removes its worktree."""
RUNS_AT_ONCE = 4
"""Of all deployments together. Trainings take turns by the workspace's own lock."""
NIGHTLY, BEFORE, WEEKLY, OFTEN = "0 3 * * *", "0 2 * * *", "0 4 * * 0", "*/5 * * * *"
"""Schedules that are there from the start, paused."""


OFFERED: tuple[tuple[Flow[Any, Any], str, str | None], ...] = (
    (retrain, "Retrain, judge, publish and promote.", NIGHTLY),
    (watch, "Retrain when enough new samples have landed.", OFTEN),
    (drift_check, "Compare new samples with the champion's training data.", BEFORE),
    (reproduce_champion, "Prove that the champion can be made again.", WEEKLY),
    (predict, "Predict a table of samples.", None),
)
"""All that the UI offers."""


async def deployments(known: Collection[str] = ()) -> list[RunnerDeployment]:
    """One a flow. A new one has its schedule, paused; those `known` to the server keep what they have."""
    return [
        await _deployed(flow, words, None if flow.name in known else cron) for flow, words, cron in OFFERED
    ]


async def serve() -> None:
    """Register the deployments and run what is due, until SIGTERM.

    Schedules that the server has already are left as they are: people change them there; so are deployments
    of a work pool. Scheduled runs that were missed meanwhile are made up for by one.
    """
    await alarms.ensure(os.environ.pop(WEBHOOK, "") or None)  # runs do not inherit it
    runner = SturdyRunner(name="mmpipe", limit=RUNS_AT_ONCE, pause_on_shutdown=False)
    async with get_client() as client:
        missed = await missed_runs(client)
        known = {found.name: found.work_pool_name for found in await client.read_deployments()}
        for deployment in await deployments(known):
            if known.get(deployment.name):  # of a worker's: `prefect deploy` put it there
                continue
            identity = await runner.aadd_deployment(deployment)
            if deployment.name in missed:  # registering took them away
                await client.create_flow_run_from_deployment(identity, parameters=missed[deployment.name])
    runner.handle_sigterm = partial(_stop, runner.handle_sigterm)  # type: ignore[method-assign]
    async with tended(runner, Place(Path.cwd()).runs):
        await runner.start()


async def missed_runs(client: PrefectClient) -> dict[str, dict[str, Any]]:
    """The deployments with scheduled runs that are overdue: name → parameters of the last one of each."""
    due = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=now("UTC")),  # type: ignore[arg-type]
    )
    order = FlowRunSort.EXPECTED_START_TIME_ASC
    runs = await client.read_flow_runs(flow_run_filter=due, sort=order)
    names = {found.id: found.name for found in await client.read_deployments()}
    return {
        names[run.deployment_id]: run.parameters
        for run in runs
        if run.auto_scheduled and run.deployment_id in names
    }


def _stop(stop_runner: Callable[[], None], *_: object) -> None:
    """SIGTERM to the runs first, and time to clean up: what lives when Prefect's runner ends, it kills."""
    runs = [
        int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()
    ]
    for pid in runs:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + CLEAN_UP_S
    while any(map(alive, runs)) and time.monotonic() < until:
        time.sleep(0.1)
    stop_runner()


async def _deployed(flow: Flow[Any, Any], words: str, cron: str | None) -> RunnerDeployment:
    schedule = {"schedules": [Cron(cron, timezone="UTC", active=False, slug="default")]} if cron else {}
    deployment = await flow.ato_deployment(
        flow.name,
        description=words,
        version=__version__,
        tags=["mmpipe"],
        entrypoint_type=EntrypointType.MODULE_PATH,
        **schedule,  # type: ignore[arg-type]
    )
    if cron is None:  # an empty list would take away what people have set
        deployment.model_fields_set.discard("schedules")
    return deployment


if __name__ == "__main__":
    run(lambda: asyncio.run(serve()))
