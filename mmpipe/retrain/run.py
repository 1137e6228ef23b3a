"""One retraining from start to end: prepare, snapshot, reproduce, gate, publish, promote, clean up."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import paths
from mmpipe.errors import MmpipeError
from mmpipe.retrain import (
    apart,
    dag,
    lock,
    pending,
    publishing,
    registering,
    sampled,
    stages,
    summary,
    worktree,
)
from mmpipe.retrain.children import Say
from mmpipe.retrain.dag import Stage
from mmpipe.retrain.journal import Journal
from mmpipe.retrain.options import Options
from mmpipe.retrain.outcome import REFUSED, Outcome
from mmpipe.retrain.stages import StageResult
from mmpipe.retrain.worktree import Worktree

METRICS = ("ingest", "split", "train", "evaluate")
Tell = Callable[[str, str], object]
"""Told (step or stage, line) of all that goes on."""


async def snapshot(tree: Worktree, options: Options, say: Say) -> dict[str, Any]:
    """Parameters and data as all stages will see them."""
    landing = None if options.landing is None else str(tree.workspace / options.landing)
    chained = options.start == "HEAD" and options.branch is None
    arguments = {
        "landing": landing,
        "update_imports": options.update_imports,
        "values": options.overrides(),
        "before": worktree.newest(tree.workspace, tree.prefix) if chained else None,
    }
    found: dict[str, Any] = await apart.call(
        "snapshot", arguments, cwd=tree.root, variables=tree.environment, say=say
    )
    return found


async def plan(tree: Worktree, say: Say) -> list[Stage]:
    """The stages as DVC has them, after it has checked out what its cache holds."""
    return dag.read(await apart.call("plan", {}, cwd=tree.root, variables=tree.environment, say=say))


def known(tree: Worktree, digest: str) -> str | None:
    """The version that has this very model, or the branch of a run that kept this champion over it."""
    version = registering.version_of(tree.root, digest)
    return version or publishing.refused(tree, digest, registering.champion(tree.root))


async def leave(_result: StageResult) -> None:
    """A stage that is not even started."""


@dataclass(frozen=True)
class Steps:
    """What a run calls, one after the other: replace some to let another engine run them."""

    snapshot: Callable[[Worktree, Options, Say], Awaitable[dict[str, Any]]] = snapshot
    plan: Callable[[Worktree, Say], Awaitable[list[Stage]]] = plan
    stage: Callable[..., Awaitable[StageResult]] = stages.run_stage
    leave: stages.Leave = leave
    known: Callable[[Worktree, str], str | None] = known
    judge: Callable[[Worktree, Say], Awaitable[dict[str, Any]]] = registering.judge
    publish: Callable[..., Awaitable[dict[str, Any]]] = registering.publish_apart
    promote: Callable[..., Awaitable[dict[str, Any]]] = registering.promote_apart
    push: Callable[[Worktree, Say], Awaitable[list[str]]] = registering.push_apart


async def retrain(
    options: Options,
    *,
    root: Path,
    name: str,
    steps: Steps | None = None,
    tell: Tell = lambda _step, _line: None,
) -> Outcome:
    """Retrain the workspace at `root`; the checkout there is not touched, whatever happens.

    `name` is told to whoever wants to run meanwhile. A stage that fails and a gate that refuses are outcomes.
    Raises LockedError `locked` where another run is in progress, and MmpipeError where a step cannot be done.
    Cancelled, it ends what it started and cleans up.
    """
    async with lock.held(root, name, wait_s=options.wait_s):
        tree = prepare(root, options)
        journal = Journal(tree.folder)
        try:
            with journal.written(tell) as tell_both:
                outcome = await _through(tree, options, steps or Steps(), tell_both)
            journal.keep(outcome)
            return outcome
        except MmpipeError as error:
            journal.keep(Outcome(tree.name, tree.commit, reason=str(error), exit_status=error.exit_status))
            raise
        finally:
            worktree.remove(tree)


def prepare(root: Path, options: Options) -> Worktree:
    """The run's own worktree: at the branch that the commit goes to, if there is one, else at the start."""
    branch = options.branch
    if branch is not None:
        publishing.check(root, branch)
    if branch is not None and publishing.tip(root, branch):
        return worktree.prepare(root, f"refs/heads/{branch}")
    return worktree.prepare(root, options.start)


async def _through(tree: Worktree, options: Options, steps: Steps, tell: Tell) -> Outcome:
    """All steps between making the worktree and removing it."""
    started = time.monotonic()
    outcome = Outcome(tree.name, tree.commit, values=options.overrides(), before=_committed(tree))
    tell("prepare", f"{tree.name} at commit {tree.commit[:12]}")
    data = await steps.snapshot(tree, options, _to(tell, "snapshot"))
    outcome.landed, outcome.carried, outcome.updated = data["landed"], data["carried"], data["updated"]
    await _reproduce(tree, options, steps, tell, outcome)
    if outcome.stage_failed is None:
        await _decide(tree, options, steps, tell, outcome)
    outcome.seconds = time.monotonic() - started
    return outcome


async def _reproduce(tree: Worktree, options: Options, steps: Steps, tell: Tell, outcome: Outcome) -> None:
    graph = await steps.plan(tree, _to(tell, "plan"))
    before = sampled.keep(tree.root)

    async def one(name: str) -> StageResult:
        result = await steps.stage(tree, name, tell, force=options.force_run)
        tell(name, f"{result.status} in {result.seconds:.1f} s")
        return result

    outcome.stages = await stages.reproduce(graph, one, steps.leave, force=options.force_run)
    outcome.changed = publishing.changed(tree.root)
    for result in outcome.stages:
        if result.status == "failed":
            outcome.stage_failed, outcome.exit_status = result.name, max(result.exit_status, 1)
            outcome.reason = f"stage {result.name} failed: {result.reason}"
            return
    outcome.after = _metrics(tree.root)
    if before is not None and (tree.root / paths.SAMPLES).is_file() and not sampled.same(before, tree.root):
        tables = {"before": str(before), "after": str(tree.root / paths.SAMPLES)}
        outcome.samples = await apart.call(
            "samples", tables, cwd=tree.root, variables=tree.environment, say=_to(tell, "samples")
        )


async def _decide(tree: Worktree, options: Options, steps: Steps, tell: Tell, outcome: Outcome) -> None:
    """One decision, at the end: nothing is written to git before it."""
    if options.publish == "yes" and pending.marked(tree):
        await _push(tree, steps, tell, outcome)
    outcome.bundle_sha256 = registering.bundle_sha256(tree.root)
    outcome.known = steps.known(tree, outcome.bundle_sha256)
    if outcome.known is not None and not options.force_run and not options.gate.wishes():
        outcome.status, outcome.reason = "unchanged", f"{outcome.known} is this very model already"
        if options.publish == "yes" and options.promote and registering.unpromoted(tree.root, outcome.known):
            await _promote(tree, steps, tell, outcome, outcome.known)
            outcome.reason += "; the run that published it was cut off before it could promote it"
        return
    outcome.verdict = await steps.judge(tree, _to(tell, "gate"))
    passed = outcome.verdict["verdict"] == "promote"
    outcome.reason = next(iter(outcome.verdict["reasons"]), "")
    tell("gate", f"{outcome.verdict['verdict']}: {outcome.reason}")
    if not passed:
        outcome.status, outcome.exit_status = "refused", REFUSED
    else:
        outcome.status = "judged"
    if options.publish != "no":
        await _release(tree, options, steps, tell, outcome)


async def _push(tree: Worktree, steps: Steps, tell: Tell, outcome: Outcome) -> None:
    """What an earlier run published is published to the end first."""
    outcome.pushed = await steps.push(tree, _to(tell, "push"))
    pending.clear(tree)
    tell("push", f"tags of an earlier run: {', '.join(outcome.pushed) or 'all are at the remote'}")


async def _release(tree: Worktree, options: Options, steps: Steps, tell: Tell, outcome: Outcome) -> None:
    """Commit; a model that passed gets its version, and if wished its stage. A dry run leaves no trace."""
    assert outcome.verdict is not None
    dry, passed = options.publish == "dry-run", outcome.status == "judged"
    text = publishing.message(tree, outcome.bundle_sha256, outcome.verdict, summary.sentence(outcome))
    if dry:
        publishing.commit_nowhere(tree, text)
    else:
        branch = options.branch if passed else None
        outcome.branch, outcome.commit = publishing.commit(tree, text, branch=branch)
        tell("publish", f"commit {outcome.commit[:12]} on {outcome.branch}")
    if not passed:
        return
    if not dry:
        pending.mark(tree)
    outcome.published = await steps.publish(tree, outcome.verdict, _to(tell, "publish"), dry_run=dry)
    tell("publish", f"{'would publish' if dry else 'published'} {outcome.published['tag']}")
    if dry:
        return
    pending.clear(tree)
    outcome.status = "published"
    if options.promote:
        await _promote(tree, steps, tell, outcome, outcome.published["tag"])


async def _promote(tree: Worktree, steps: Steps, tell: Tell, outcome: Outcome, tag: str) -> None:
    pending.mark(tree)
    outcome.promoted = await steps.promote(tree, tag, outcome.run, _to(tell, "promote"))
    pending.clear(tree)
    outcome.status = "promoted"
    tell("promote", f"{outcome.promoted['tag']}")


def _to(tell: Tell, step: str) -> Say:
    return lambda line: tell(step, line)


def _metrics(root: Path) -> dict[str, Any]:
    found = ((name, root / paths.METRICS / f"{name}.json") for name in METRICS)
    return {name: json.loads(path.read_bytes()) for name, path in found if path.is_file()}


def _committed(tree: Worktree) -> dict[str, Any]:
    """The metrics of the commit: the worktree is still as it was checked out."""
    return _metrics(tree.root)
