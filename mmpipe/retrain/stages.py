"""The pipeline stage by stage: each by DVC in a process group of its own, independent ones side by side."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mmpipe.errors import MmpipeError
from mmpipe.retrain import apart
from mmpipe.retrain.dag import Stage
from mmpipe.retrain.worktree import Worktree

Status = Literal["ran", "cached", "failed", "left out"]
Line = Callable[[str, str], object]
"""Told (stage, line) of all that stages print."""
Leave = Callable[["StageResult"], Awaitable[None]]
"""Told a stage that is not started."""
KEPT_LINES = 50
_DVCS = ("Running stage ", "> ", "Stage ", "ERROR: ")
"""How DVC's own lines begin."""
_HINTS = (
    "Updating lock file",
    "To track the changes",
    "To enable auto",
    "\tgit add",
    "\tdvc config",
    "Use `dvc push`",
)
"""What DVC advises a person to do next: the run does it."""


@dataclass(frozen=True)
class StageResult:
    """`changed`: the outputs that are others now. `lines`: the last that it printed; `reason`: why it failed.

    `exit_status`: of the stage's own program. A stage is left out where one before it failed.
    """

    name: str
    status: Status
    seconds: float = 0.0
    changed: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    exit_status: int = 0
    reason: str = ""


async def run_stage(tree: Worktree, name: str, on_line: Line, *, force: bool = False) -> StageResult:
    """Let DVC bring one stage up to date; its outputs are read and compared with dvc.lock afterwards.

    A stage that fails is a result. Cancelled, its process group ends within `children.PATIENCE_S`.
    """
    started = time.monotonic()
    lines: list[str] = []
    ran = False

    def hear(line: str) -> None:
        nonlocal ran
        if not line.strip() or line.startswith(_HINTS):
            return
        ran = ran or line.startswith(f"Running stage '{name}'")
        lines.append(line)
        del lines[:-KEPT_LINES]
        on_line(name, line)

    arguments = {"name": name, "force": force}
    try:
        found = await apart.call("repro", arguments, cwd=tree.root, variables=tree.environment, say=hear)
    except MmpipeError as error:
        found = {"changed": [], "exit_status": error.exit_status, "reason": str(error)}
    status: Status = "failed" if found["reason"] else "ran" if ran else "cached"
    reason = _own_words(lines) or found["reason"] if status == "failed" else ""
    seconds = time.monotonic() - started
    return StageResult(
        name, status, seconds, tuple(found["changed"]), tuple(lines), found["exit_status"], reason
    )


async def reproduce(
    stages: Sequence[Stage],
    run: Callable[[str], Awaitable[StageResult]],
    leave: Leave,
    *,
    force: bool = False,
    parallel: int | None = None,
) -> list[StageResult]:
    """Run the stages that need it, as many side by side as there are CPUs; results in the order of `stages`.

    A stage that DVC finds unchanged, and that reads nothing that has become another, is not even started:
    `leave` is told it, and any that comes after a failed one.
    """
    slots = asyncio.Semaphore(parallel or os.cpu_count() or 1)
    tasks: dict[str, asyncio.Task[StageResult]] = {}

    async def one(stage: Stage) -> StageResult:
        if stage.needs:  # not awaited one by one: that would cancel them twice when all are cancelled
            await asyncio.wait([tasks[name] for name in stage.needs])
        before = [tasks[name].result() for name in stage.needs]
        if any(result.status in ("failed", "left out") for result in before):
            return await left(StageResult(stage.name, "left out"))
        if (
            not force
            and not stage.changed
            and not any(stage.reads(path) for result in before for path in result.changed)
        ):
            return await left(StageResult(stage.name, "cached"))
        async with slots:
            return await run(stage.name)

    async def left(result: StageResult) -> StageResult:
        await leave(result)
        return result

    try:
        async with asyncio.TaskGroup() as group:
            for stage in stages:
                tasks[stage.name] = group.create_task(one(stage))
    except ExceptionGroup as found:
        raise found.exceptions[0] from None
    return [task.result() for task in tasks.values()]


def _own_words(lines: Sequence[str]) -> str:
    """The last that the stage itself said."""
    own = [line for line in lines if not line.startswith(_DVCS)]
    return own[-1].strip() if own else ""
