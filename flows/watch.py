"""The flow `watch`: a cheap look at a landing folder; with enough new samples it starts a retraining."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from prefect import flow
from prefect.states import Completed
from pydantic import Field

from flows.speaking import tell
from mmpipe import paths
from mmpipe.files import write_json
from mmpipe.retrain.options import Options

if TYPE_CHECKING:
    from mmpipe.row import Row

STATE = paths.PRIVATE / "watch.json"
"""{seen: the samples that a retraining took, pending: those of the run that was started, run: its id}."""


@flow(name="watch", persist_result=False)
async def watch(landing: str = "landing", at_least: Annotated[int, Field(ge=1)] = 20) -> Any:
    """Start a retraining when the landing folder has at least so many samples that no retraining saw.

    Only names, sizes and times are read, no sample's content.
    """
    root = Path.cwd()
    there = samples(root / landing, _columns(root))
    state = await settled(_read(root / STATE))
    new = there - state["seen"]
    if state["run"]:
        reason = f"{len(new)} new samples; run {state['run']} is still in progress"
    elif len(new) < at_least:
        reason = f"{len(new)} new samples, fewer than {at_least}"
    else:
        state["run"], state["pending"] = await start(landing), there
        reason = f"{len(new)} new samples: started run {state['run']}"
    _write(root / STATE, state)
    tell("watch", reason)
    return Completed(name="Started" if state["pending"] == there and there else "Waiting", message=reason)


def samples(folder: Path, columns: Mapping[str, str | None]) -> set[str]:
    """A short hash for each sample of a landing folder: its cells, and its files' sizes and times."""
    from mmpipe import manifest
    from mmpipe.retrain.landing import TABLES
    from mmpipe.row import Row

    if not folder.is_dir():
        return set()
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLES)
    rows = [row for source in tables or [folder] for row in manifest.read(source, columns)]
    return {_signature(row) for row in rows if isinstance(row, Row)}


async def settled(state: dict[str, Any]) -> dict[str, Any]:
    """The state after a look at the run that was started: what it took is seen, if it did its work."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    if not state["run"]:
        return state
    async with get_client() as client:
        try:
            found = (await client.read_flow_run(UUID(state["run"]))).state
        except ObjectNotFound:
            found = None
    if found is not None and not found.is_final():
        return state
    took = found is not None and found.is_completed() and found.name != "Skipped"
    return {"seen": state["pending"] if took else state["seen"], "pending": set(), "run": ""}


async def start(landing: str) -> str:
    """A run of the deployment `retrain`, which is not waited for; its id."""
    from prefect.deployments import arun_deployment

    parameters = {"options": Options(landing=landing).model_dump(mode="json")}
    run = await arun_deployment("retrain/retrain", parameters=parameters, timeout=0, as_subflow=False)
    return str(run.id)


def _columns(root: Path) -> dict[str, str | None]:
    from mmpipe import params

    found: dict[str, str | None] = params.load(root / paths.PARAMS).data.columns.model_dump()
    return found


def _signature(row: "Row") -> str:
    cells = [row.image, row.audio, row.text_path, row.text, row.target, row.group, row.split]
    stamps = [_stamp(row.folder / name) for name in cells[:3] if name]
    return hashlib.sha256(json.dumps([cells, stamps]).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    sets = {name: set(found.get(name, [])) for name in ("seen", "pending")}
    return {**sets, "run": found.get("run", "")}


def _write(path: Path, state: dict[str, Any]) -> None:
    write_json(path, {name: sorted(v) if isinstance(v, set) else v for name, v in state.items()})
