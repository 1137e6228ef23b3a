"""The flow `retrain`: the steps of `mmpipe.retrain.run`, each a task run, each DVC stage one of its own."""

import hashlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import Task, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.states import Completed

from flows import artifacts
from flows.settings import RUNNER
from flows.speaking import tell
from flows.sturdy import by_itself, sturdy, waited
from mmpipe.errors import LockedError, MmpipeError
from mmpipe.retrain import lock, run, stages
from mmpipe.retrain.children import Say
from mmpipe.retrain.dag import Stage
from mmpipe.retrain.options import Options
from mmpipe.retrain.outcome import Outcome
from mmpipe.retrain.run import Steps
from mmpipe.retrain.stages import Line, StageResult
from mmpipe.retrain.worktree import Worktree
from mmpipe.stages.process import end_with_parent

TRANSIENT = 75
"""The exit status of a stage that may work later: the only thing worth a retry."""
RETRIES = 2
RETRY_DELAY_S = 20
NAMES = {"unchanged": "Unchanged", "judged": "Judged", "refused": "Refused", "published": "Published"}
NAMES |= {"promoted": "Promoted"}
"""What became of a run that did its work → the name of its state."""
DEFAULT = Options()


class StageFailedError(MmpipeError):
    """A stage failed: `result` says how."""

    def __init__(self, result: StageResult) -> None:
        super().__init__("step-failed", result.reason, where=result.name)
        self.result = result


async def is_transient(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether a failed stage is to be tried again."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StageFailedError) and error.result.exit_status == TRANSIENT


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="snapshot")
async def snapshot(tree: Worktree, options: Options, say: Say) -> dict[str, Any]:
    """Fix the parameters and the data that all stages will see."""
    return await run.snapshot(tree, options, say)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="plan")
async def plan(tree: Worktree, say: Say) -> list[Stage]:
    """Ask DVC which stages there are, and which of them changed."""
    return await run.plan(tree, say)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    task_run_name="{name}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=is_transient,
)
async def stage(
    tree: Worktree,
    name: str,
    tell: Line,
    *,
    force: bool,
    after: Mapping[str, StageResult],  # noqa: ARG001 (the engine draws the graph by it)
) -> Any:
    """Let DVC bring one stage up to date: a StageResult, or a state with one. Raises StageFailedError."""
    async with artifacts.progress(name, tell) as heard:
        result = await stages.run_stage(tree, name, heard, force=force)
    if result.status == "failed":
        raise StageFailedError(result)
    if result.status == "cached":
        return _named("Cached", "DVC had it in its cache", result)
    await artifacts.of_stage(tree, name)
    return result


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{name}")
async def skipped(
    name: str,  # noqa: ARG001 (the name of the task run)
    result: StageResult,
    *,
    after: Mapping[str, StageResult],  # noqa: ARG001 (the engine draws the graph by it)
) -> Any:
    """Show a stage that is not run: nothing that it reads changed, or one before it failed."""
    if result.status == "cached":
        return _named("Cached", "nothing that it reads changed", result)
    return _named("Skipped", "a stage before it failed", result)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="gate")
async def gate(tree: Worktree, say: Say) -> dict[str, Any]:
    """Compare the new model with the champion."""
    return await Steps().judge(tree, say)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="publish")
async def publish(tree: Worktree, verdict: Mapping[str, Any], say: Say, *, dry_run: bool) -> dict[str, Any]:
    """Give the new model its version: tag, `dvc push`, `git push`."""
    found: dict[str, Any] = await Steps().publish(tree, verdict, say, dry_run=dry_run)
    return found


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="promote")
async def promote(tree: Worktree, version: str, why: str, say: Say) -> dict[str, Any]:
    """Give the stage `prod` to the new version."""
    found: dict[str, Any] = await Steps().promote(tree, version, why, say)
    return found


@sturdy("retrain")
async def retrain(options: Options = DEFAULT) -> Any:
    """Retrain the workspace that is the current folder; publish and promote what the gate lets pass.

    Snapshot of the data, every DVC stage that changed, gate, publish, promote: in a worktree of its own, so
    that nobody's checkout is touched. Only one run of a workspace at a time: a second one is skipped.
    """
    end_with_runner()
    if covered := coalesced(Path.cwd(), options):
        return _named("Skipped", covered)
    shown = Shown()
    last = shown.judge, here(publish), here(promote)
    steps = Steps(here(snapshot), shown.plan, shown.stage, shown.leave, run.known, *last)
    try:
        outcome = await run.retrain(options, root=Path.cwd(), name=run_name(options), steps=steps, tell=tell)
    except LockedError as error:
        tell("prepare", f"skipped: {error.what}")
        return _named("Skipped", error.what)
    if FlowRunContext.get() is not None and await waited():
        await artifacts.of_outcome(outcome)
    return concluded(outcome)


def concluded(outcome: Outcome) -> Any:
    """The state of the whole run, by what became of it. Raises MmpipeError for a stage that failed."""
    if outcome.status == "failed":
        raise MmpipeError("step-failed", outcome.reason, where=outcome.run)
    tell(outcome.run, f"{outcome.status}: {outcome.reason}")
    return _named(NAMES[outcome.status], outcome.reason or outcome.run, outcome.as_json())


@dataclass
class Shown:
    """The stages of one run as task runs: each is linked to those before it."""

    graph: dict[str, Stage] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)

    async def plan(self, tree: Worktree, say: Say) -> list[Stage]:
        """What DVC says."""
        found: list[Stage] = await here(plan)(tree, say)
        self.graph = {one.name: one for one in found}
        return found

    async def stage(self, tree: Worktree, name: str, tell: Line, *, force: bool = False) -> StageResult:
        """A stage that may have to run; one that fails is a result."""
        try:
            result = _plain(await here(stage)(tree, name, tell, force=force, after=self._before(name)))
        except StageFailedError as error:
            result = error.result
        self.results[name] = result
        return result

    async def leave(self, result: StageResult) -> None:
        """A stage that does not run."""
        self.results[result.name] = result
        await here(skipped)(result.name, result, after=self._before(result.name))

    async def judge(self, tree: Worktree, say: Say) -> dict[str, Any]:
        """The verdict; pictures of what DVC had in its cache are as welcome as those of what ran."""
        for name, result in self.results.items():
            if result.status == "cached":
                await artifacts.of_stage(tree, name)
        found: dict[str, Any] = await here(gate)(tree, say)
        return found

    def _before(self, name: str) -> dict[str, StageResult]:
        return {other: self.results[other] for other in self.graph[name].needs}


def here(step: Task[..., Any]) -> Callable[..., Any]:
    """A task in a run of the engine; else its function, which needs no server."""
    return step if FlowRunContext.get() is not None else step.fn


def run_name(options: Options) -> str:
    """What others are told while it runs; of a scheduled run also which options it has."""
    name = runtime.flow_run.name or f"of process {os.getpid()}"
    return f"{name} ({_schedule(options)})" if _is_scheduled() else name


def coalesced(root: Path, options: Options) -> str | None:
    """Why a scheduled run need not do anything: the same one began after this one was due.

    After a time without a server all missed runs come at once; the first does the work of all. A retry is
    a person's wish.
    """
    due = runtime.flow_run.scheduled_start_time
    if not _is_scheduled() or due is None or runtime.flow_run.run_count > 1:
        return None
    last = lock.last(root)
    same = str(last.get("run", "")).endswith(f"({_schedule(options)})")
    if not same or datetime.fromisoformat(last["since"]) <= due:
        return None
    return f"run {last['run']} began at {last['since']}, after this one was due"


def end_with_runner() -> None:
    """A run that a runner started does not outlive it, not even one that ended before this could be asked."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        end_with_parent()
        if os.environ.get(RUNNER, str(os.getppid())) != str(os.getppid()):
            os.kill(os.getpid(), signal.SIGTERM)


def _is_scheduled() -> bool:
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.auto_scheduled)


def _schedule(options: Options) -> str:
    return f"schedule {hashlib.sha256(options.model_dump_json().encode()).hexdigest()[:8]}"


def _named(name: str, message: str, data: Any = None) -> Any:
    """A state with a name of ours, or just the data where no engine runs this.

    Prefect would write a flow's own data to disk: only tasks hand it on.
    """
    if TaskRunContext.get() is not None:
        return Completed(name=name, message=message, data=data)
    if FlowRunContext.get() is not None:
        return Completed(name=name, message=message)
    return data if data is not None else message


def _plain(value: StageResult | State[StageResult]) -> StageResult:
    """What a task returned, out of its state."""
    if isinstance(value, StageResult):
        return value
    data = value.data
    found = getattr(data, "result", data)
    assert isinstance(found, StageResult)
    return found


if __name__ == "__main__":
    by_itself(retrain)
