"""The stages of a workspace as DVC itself reports them: what each needs, and whether it changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from mmpipe.errors import MmpipeError


@dataclass(frozen=True)
class Stage:
    """`needs`: the stages right before it. `changed`: DVC says that it has to run, whatever comes before."""

    name: str
    needs: tuple[str, ...]
    changed: bool


def read(found: Mapping[str, Any]) -> list[Stage]:
    """What `plan` found, as objects."""
    return [Stage(one["name"], tuple(one["needs"]), one["changed"]) for one in found["stages"]]


def plan() -> dict[str, Any]:
    """Check out what the cache has, then {stages: [{name, needs, changed}]} in an order that can be run.

    In a process of its own, in the folder of `dvc.yaml`.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.checkout(force=True, allow_missing=True)
            status = repo.status(check_updates=False)
            graph = repo.index.graph
            ours = {stage: stage.addressing for stage in graph if _is_ours(stage)}
    except DvcException as error:
        raise MmpipeError("step-failed", f"DVC says: {error}", where="dvc.yaml") from error
    needs = {
        name: sorted(ours[before] for before in graph.successors(stage) if before in ours)
        for stage, name in ours.items()
    }
    order = TopologicalSorter(needs).static_order()
    return {"stages": [{"name": n, "needs": needs[n], "changed": bool(status.get(n))} for n in order]}


def _is_ours(stage: Any) -> bool:
    """A stage of the `dvc.yaml` here; not a `.dvc` file, and not one of another folder."""
    return bool(stage.cmd) and Path(stage.path).parent == Path.cwd()
