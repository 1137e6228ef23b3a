"""The flow `watch`: a cheap look at new samples and at the sources of imports; enough start a retraining."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from prefect import flow
from prefect.states import Completed
from pydantic import Field

from flows.speaking import tell
from mmpipe import paths
from mmpipe.retrain import watching
from mmpipe.retrain.apart import call, environment
from mmpipe.retrain.options import Options
from mmpipe.retrain.watching import End, Found, Import, State

ENDS: dict[str, End] = {"COMPLETED": "done", "FAILED": "failed", "CANCELLED": "failed", "CRASHED": "crashed"}
"""What the type of a run's last state says of the data that it was started for."""


@flow(name="watch", persist_result=False)
async def watch(
    landing: str = "landing",
    at_least: Annotated[int, Field(ge=1)] = 20,
    import_files: Annotated[int, Field(ge=0)] = 1,
) -> Any:
    """Start a retraining when enough has landed, or changed at the sources of DVC imports, that none saw.

    Of samples only names, sizes and times are read, of imports commits and hashes. Nothing is started twice
    for the same data, unless the run crashed or was skipped. Raises TemporaryError `import-unreachable`.

    Args:
        landing: Folder with new samples, relative to the workspace; it need not be there.
        at_least: So many new samples are enough.
        import_files: So many new or changed files of DVC imports are enough; 0: imports are not looked at.
    """
    root = Path.cwd()
    state = await settled(watching.read(root))
    watching.write(root, state)
    found = Found(watching.samples(root / landing, _columns(root)), await _imports(root, state, import_files))
    samples, files = found.news(state)
    told = f"{samples} new samples, {files} new or changed files of imports"
    if state.run:
        return _concluded("Waiting", f"{told}; run {state.run} is still in progress")
    if samples < at_least and not (import_files and files >= import_files):
        return _concluded("Waiting", f"{told}, fewer than {at_least} and {import_files}")
    options = Options(landing=landing if found.samples else None, update_imports=files > 0)
    run = await start(options, key=state.key(found.all))
    watching.write(root, state.begun(run, found.all))
    return _concluded("Started", f"{told}: started run {run}")


async def settled(state: State) -> State:
    """The state after a look at the run that was started."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    if not state.run:
        return state
    async with get_client() as client:
        try:
            found = (await client.read_flow_run(UUID(state.run))).state
        except ObjectNotFound:
            found = None
    if found is not None and not found.is_final():
        return state
    name = found.name if found else "the server knows it no more"
    tell("watch", f"run {state.run} ended: {name}")
    if found is None:
        return state.settled("crashed")
    return state.settled("skipped" if name == "Skipped" else ENDS[found.type.value])


async def start(options: Options, *, key: str) -> str:
    """A run of the deployment `retrain`, which is not waited for; its id. One run for one key."""
    from prefect.deployments import arun_deployment

    run = await arun_deployment(
        "retrain/retrain",
        parameters={"options": options.model_dump(mode="json")},
        timeout=0,
        as_subflow=False,
        idempotency_key=key,
    )
    return str(run.id)


async def _imports(root: Path, state: State, enough: int) -> list[Import]:
    """Asked by a process of its own: DVC is heavy, and its threads outlive a cancelled run."""
    if not enough:
        return []
    found = await call(
        "imports",
        {"known": sorted(state.seen)},
        cwd=root,
        variables=environment(root),
        say=lambda line: tell("imports", line),
    )
    return [Import(**one) for one in found]


def _columns(root: Path) -> dict[str, str | None]:
    from mmpipe import params

    found: dict[str, str | None] = params.load(root / paths.PARAMS).data.columns.model_dump()
    return found


def _concluded(name: str, reason: str) -> Any:
    tell("watch", reason)
    return Completed(name=name, message=reason)
