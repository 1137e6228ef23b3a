"""The stages of a workspace as DVC itself reports them: what each needs, and whether it changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from mmpipe.errors import MmpipeError


@dataclass(frozen=True)
class Stage:
    """`needs`: the stages right before it; `deps`: the paths that it reads.

    `changed`: DVC says that it has to run, whatever comes before.
    """

    name: str
    needs: tuple[str, ...]
    deps: tuple[str, ...]
    changed: bool

    def reads(self, path: str) -> bool:
        """Whether a change there, or of something in it, is a change of what it reads."""
        return any(
            f"{one}/".startswith(f"{other}/")
            for dep in self.deps
            for one, other in ((dep, path), (path, dep))
        )


def read(found: Mapping[str, Any]) -> list[Stage]:
    """What `plan` found, as objects."""
    return [
        Stage(one["name"], tuple(one["needs"]), tuple(one["deps"]), one["changed"]) for one in found["stages"]
    ]


def plan() -> dict[str, Any]:
    """Check out what the cache has; → {stages: [{name, needs, deps, changed}]}, each after those it needs.

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
            deps = {name: sorted(dep.def_path for dep in stage.deps) for stage, name in ours.items()}
    except DvcException as error:
        raise MmpipeError("step-failed", f"DVC says: {error}", where="dvc.yaml") from error
    needs = {
        name: sorted(ours[before] for before in graph.successors(stage) if before in ours)
        for stage, name in ours.items()
    }
    return {
        "stages": [
            {"name": name, "needs": needs[name], "deps": deps[name], "changed": bool(status.get(name))}
            for name in TopologicalSorter(needs).static_order()
        ]
    }


def _is_ours(stage: Any) -> bool:
    """A stage of the `dvc.yaml` here; not a `.dvc` file, and not one of another folder."""
    return bool(stage.cmd) and Path(stage.path).parent == Path.cwd()
