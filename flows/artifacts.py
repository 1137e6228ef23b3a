"""What a run leaves in the UI: summary, metrics, verdict, pictures, progress; without a server, nothing."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    acreate_image_artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

from flows import pictures
from flows.settings import Place
from flows.speaking import logger
from mmpipe import paths
from mmpipe.errors import MmpipeError
from mmpipe.retrain import summary
from mmpipe.retrain.outcome import Outcome
from mmpipe.retrain.stages import Line
from mmpipe.retrain.worktree import Worktree

PATIENCE_S = 10.0
"""For a server that does not answer: the run goes on without the artifact."""
EVERY_S = 1.0
KEPT_REPORTS = 20
_STEP = re.compile(r"(?:epoch|extract \w+|predict):? (\d+)/(\d+)\b")


@asynccontextmanager
async def progress(name: str, tell: Line) -> AsyncIterator[Line]:
    """Lines are passed on to `tell`; those that count samples, rows or epochs move a progress artifact on."""
    found = [0.0]

    def heard(step: str, line: str) -> None:
        if count := _STEP.match(line):
            found[0] = 100 * int(count[1]) / max(int(count[2]), 1)
        tell(step, line)

    showing = asyncio.create_task(_show(name, found)) if in_run() else None
    try:
        yield heard
    finally:
        if showing:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing


async def of_stage(tree: Worktree, name: str) -> None:
    """Pictures and report of a stage that has just run, while its worktree is there; never a failure."""
    if not in_run():
        return
    try:
        if name == "train":
            for quantity, uri in pictures.curves(tree.root).items():
                await deliver(
                    acreate_image_artifact(uri, key=f"curve-{_key(quantity)}", description=quantity)
                )
        elif name == "bundle" and (matrix := pictures.confusion(tree.root)):
            await deliver(
                acreate_image_artifact(matrix, key="confusion", description="Confusion, test samples")
            )
        elif name == "report":
            await deliver(_report(tree))
    except (MmpipeError, OSError, LookupError, ValueError) as error:
        logger().warning("no picture of %s: %s", name, error)


async def of_outcome(outcome: Outcome) -> None:
    """The summary of the run; where it got so far, metrics against the champion, verdict and new tag."""
    if not in_run():
        return
    text, title = summary.markdown(outcome), f"{outcome.run}: {outcome.status}"
    await deliver(acreate_markdown_artifact(text, key="summary", description=title))
    if rows := metrics_table(outcome):
        await deliver(acreate_table_artifact(rows, key="metrics", description="New model against champion"))
    if outcome.verdict is not None:
        await deliver(acreate_markdown_artifact(verdict(outcome), key="gate", description=outcome.reason))
    if outcome.published:
        tag, dry = outcome.published["tag"], outcome.published["dry_run"]
        words = f"`{tag}`{' (dry run: nothing was tagged)' if dry else ''}"
        if outcome.promoted:
            words += f"\n\npromoted: `{outcome.promoted['tag']}`"
        await deliver(acreate_markdown_artifact(words, key="model-version", description=f"`{tag}`"))


def metrics_table(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a figure, on the same test samples: champion, new, difference."""
    figures = (outcome.verdict or {}).get("figures") or {}
    new, old = figures.get("challenger") or {}, figures.get("champion") or {}
    return [_row(name, old.get(name), value) for name, value in new.items() if isinstance(value, int | float)]


def verdict(outcome: Outcome) -> str:
    """The gate's decision with its reasons, as Markdown."""
    assert outcome.verdict is not None
    against = outcome.verdict.get("champion") or "no champion"
    reasons = "\n".join(f"- {reason}" for reason in outcome.verdict.get("reasons", []))
    return f"# {outcome.verdict['verdict']}\n\nagainst {against}\n\n{reasons}\n"


def _row(name: str, old: Any, new: Any) -> dict[str, Any]:
    both = isinstance(old, int | float) and isinstance(new, int | float)
    shown = [f"{value:.4g}" if isinstance(value, float) else value for value in (old, new)]
    change = (f"{new - old:+d}" if isinstance(new - old, int) else f"{new - old:+.4g}") if both else ""
    return {"figure": name, "champion": shown[0], "new": shown[1], "change": change}


async def _report(tree: Worktree) -> None:
    """A copy that outlives the worktree, and the link to where it is served."""
    place = Place(tree.workspace)
    place.reports.mkdir(parents=True, exist_ok=True)
    page = place.reports / f"{tree.number}.html"
    shutil.copyfile(tree.root / paths.REPORT, page)
    there = sorted(place.reports.glob("*.html"), key=lambda path: int(path.stem))
    for old in there[:-KEPT_REPORTS]:
        old.unlink(missing_ok=True)
    address = place.report_address(page.name)
    if address:
        words = f"The report of {tree.name}"
        await acreate_link_artifact(address, link_text=words, key="report", description=words)


async def _show(name: str, found: list[float]) -> None:
    """Once there is something to tell, an artifact that follows it."""
    made: UUID | None = None
    shown = 0.0
    while True:
        await asyncio.sleep(EVERY_S)
        if found[0] == shown:
            continue
        shown = found[0]
        if made is None:
            key = f"progress-{_key(name)}"
            made = await deliver(acreate_progress_artifact(shown, key=key, description=name))
        else:
            await deliver(aupdate_progress_artifact(made, shown))


async def deliver(creating: Awaitable[Any]) -> Any:
    """Its result; None, with a line in the log, where the server does not take it."""
    import httpx

    try:
        return await asyncio.wait_for(creating, PATIENCE_S)
    except (httpx.HTTPError, PrefectException, OSError, TimeoutError) as error:
        logger().warning("the server does not take an artifact: %s", error or type(error).__name__)
        return None


def in_run() -> bool:
    """Whether there is a run that an artifact could belong to."""
    return TaskRunContext.get() is not None or FlowRunContext.get() is not None


def _key(name: str) -> str:
    """Prefect's keys: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
