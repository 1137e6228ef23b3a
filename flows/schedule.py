"""`mmpipe schedule`: the schedules of the deployments, in the running server, which keeps them."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.settings import Place, client
from mmpipe.errors import NotFoundError, UsageError
from mmpipe.paths import PIPELINE
from mmpipe.retrain.foreseen import check
from mmpipe.retrain.options import parsed
from mmpipe.stages.process import run

ACTIONS = ("list", "pause", "resume", "remove")
FLOWS = ("retrain", "watch", "drift-check", "reproduce-champion", "predict")


def main() -> None:
    """Do what the command line says in the server of the workspace that is the current folder.

    Raises NotFoundError `workspace`, or `server-missing` where none runs, UsageError `usage` for a cron line
    or time zone that is none, and as `foreseen.check` for options that no run could have.
    """
    wishes = _wishes()
    place = Place(Path.cwd())
    if not (place.root / PIPELINE).is_file():
        raise NotFoundError("workspace", f"has no {PIPELINE}", where=str(place.root.resolve()))
    url = place.found().get("url")
    from flows.server import request  # only needs the standard library

    if not url or request(place, f"{url}/api/health") != 200:
        raise NotFoundError("server-missing", "no server runs here", where=str(place.root.resolve()))
    os.environ.update(client(place, url))  # before Prefect reads it
    found = asyncio.run(_act(wishes))
    _print(found, as_json=wishes.json)


async def _act(wishes: argparse.Namespace) -> list[dict[str, Any]]:
    """→ the schedules after it, one each."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    everything = wishes.action == "list" and not wishes.cron and not wishes.flow
    found = []
    async with get_client() as api:
        for flow in FLOWS if everything else [wishes.flow or FLOWS[0]]:
            try:
                deployment = await api.read_deployment_by_name(f"{flow}/{flow}")
            except ObjectNotFound:
                what = f"the server knows no flow {flow!r}"
                raise NotFoundError("server-missing", what, fix="see the flows in the UI") from None
            await _change(api, deployment.id, wishes)
            found += [_told(one, flow) for one in await api.read_deployment_schedules(deployment.id)]
    return found


async def _change(api: Any, deployment: UUID, wishes: argparse.Namespace) -> None:
    there = await api.read_deployment_schedules(deployment)
    if wishes.cron:
        await _replace(api, deployment, there, wishes)
        return
    for old in there:
        if wishes.action == "remove":
            await api.delete_deployment_schedule(deployment, old.id)
        elif wishes.action in ("pause", "resume"):
            active = wishes.action == "resume"
            await api.update_deployment_schedule(deployment, old.id, active=active)


async def _replace(api: Any, deployment: UUID, there: list[Any], wishes: argparse.Namespace) -> None:
    """One schedule, with the options that its runs get, in place of those that are there."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    new = DeploymentScheduleCreate(
        schedule=_schedule(wishes), active=True, parameters=_parameters(wishes.options)
    )
    await api.create_deployment_schedules(deployment, [new])
    for old in there:
        await api.delete_deployment_schedule(deployment, old.id)


def _parameters(options: str) -> dict[str, Any]:
    """What every run is asked to do, as JSON. Raises as `options.parsed` and `foreseen.check`."""
    if not options:
        return {}
    found = parsed(json.loads(options))
    check(found, Path.cwd())
    return {"options": found.model_dump(mode="json")}


def _schedule(wishes: argparse.Namespace) -> Any:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        return CronSchedule(cron=wishes.cron, timezone=wishes.timezone)
    except ValidationError as error:
        told = "; ".join(item["msg"] for item in error.errors())
        raise UsageError("usage", f"{wishes.cron!r}, {wishes.timezone!r}: {told}") from None


def _told(found: Any, flow: str) -> dict[str, Any]:
    schedule = found.schedule
    cron = getattr(schedule, "cron", None)
    every = getattr(schedule, "interval", None)
    return {
        "flow": flow,
        "when": cron or (f"every {every.total_seconds():.0f} s" if every else str(schedule)),
        "timezone": getattr(schedule, "timezone", None) or "UTC",
        "active": found.active,
    }


def _print(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for one in found:
        state = "" if one["active"] else "  paused"
        sys.stdout.write(f"{one['flow']}  {one['when']}  {one['timezone']}{state}\n")
    if not found:
        sys.stdout.write("no schedule\n")


def _wishes() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mmpipe schedule")
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list")
    parser.add_argument("--cron", default="")
    parser.add_argument("--timezone", default="UTC")
    parser.add_argument("--flow", choices=FLOWS, default="")
    parser.add_argument("--options", default="")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
