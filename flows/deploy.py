"""The deployments of a workspace, and the one process that serves them: `python -m flows.deploy`."""

import asyncio
import os

from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.flows import Flow
from prefect.runner import Runner
from prefect.schedules import Cron

from flows import alarms
from flows.batch import predict
from flows.proof import reproduce_champion
from flows.retrain import retrain
from flows.watch import watch
from mmpipe import __version__
from mmpipe.stages.process import run

RUNS_AT_ONCE = 4
"""Of all deployments together. Trainings take turns by the workspace's own lock."""
NIGHTLY, WEEKLY, OFTEN = "0 3 * * *", "0 4 * * 0", "*/5 * * * *"
"""Schedules that are there from the start, paused."""


async def deployments() -> list[RunnerDeployment]:
    """All that the UI offers. Their schedules are paused until somebody wants them."""
    return [
        await _deployed(retrain, "Retrain, judge, publish and promote.", NIGHTLY),
        await _deployed(watch, "Retrain when enough new samples have landed.", OFTEN),
        await _deployed(reproduce_champion, "Prove that the champion can be made again.", WEEKLY),
        await _deployed(predict, "Predict a table of samples.", None),
    ]


async def serve() -> None:
    """Register the deployments and run what is due, until SIGTERM.

    Schedules that the server has already are left as they are: people change them there.
    """
    await alarms.ensure(os.environ.get(alarms.WEBHOOK) or None)
    known = await alarms.known_deployments()
    runner = Runner(name="mmpipe", limit=RUNS_AT_ONCE, pause_on_shutdown=False)
    for deployment in await deployments():
        if deployment.name in known:
            deployment.schedules = None
        await runner.aadd_deployment(deployment)
    await runner.start()


async def _deployed(flow: Flow, words: str, cron: str | None) -> RunnerDeployment:  # type: ignore[type-arg]
    schedule = {"schedules": [Cron(cron, timezone="UTC", active=False, slug="default")]} if cron else {}
    return await flow.ato_deployment(
        flow.name,
        description=words,
        version=__version__,
        tags=["mmpipe"],
        entrypoint_type=EntrypointType.MODULE_PATH,
        **schedule,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    run(lambda: asyncio.run(serve()))
