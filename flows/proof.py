"""The flow `reproduce-champion`: the champion again from its commit alone, held against its record."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from flows import leaving
from flows.command import ask
from flows.retrain import end_with_runner
from flows.sturdy import sturdy
from mmpipe.errors import LockedError, VerificationError
from mmpipe.retrain import lock, registering

DIVERGED = 6
"""The exit status of `mmpipe reproduce` where a stage came out otherwise; there is a record all the same."""
NAMES = {"identical": "Reproduced", "equivalent": "Equivalent"}


@sturdy("reproduce-champion")
async def reproduce_champion(champion: str = registering.CHAMPION) -> Any:
    """Run every stage of the champion's commit from nothing: no cache, no store, no worktree of others.

    Its record becomes an artifact. Nothing is committed; no retraining runs meanwhile. Raises
    VerificationError `not-reproduced` where a stage came out otherwise.

    Args:
        champion: A version or a stage.
    """
    end_with_runner()
    root = Path.cwd()
    if champion == registering.CHAMPION and registering.champion(root) is None:
        return Completed(name="Skipped", message="no version holds the stage prod yet")
    try:
        async with lock.held(root, f"reproduction of {champion}"):
            record = await ask("reproduce", champion, good=(0, DIVERGED))
    except LockedError as error:
        return Completed(name="Skipped", message=error.what)
    await leaving.table("reproduction", rows(record), words=record["why"])
    if record["verdict"] not in NAMES:
        where = f"{record['verdict']} at {record['stage']}"
        raise VerificationError("not-reproduced", f"{where}: {record['why']}", where=record["tag"])
    return Completed(name=NAMES[record["verdict"]], message=f"{record['tag']}: {record['why']}")


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a stage: how it came out, and why if otherwise."""
    return [
        {
            "stage": stage["name"],
            "state": stage["state"],
            "seconds": stage["seconds"],
            "why": "; ".join([*(cause["what"] for cause in stage["causes"]), *stage["differences"].values()]),
        }
        for stage in record["stages"]
    ]
