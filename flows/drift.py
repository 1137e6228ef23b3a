"""The flow `drift-check`: new samples held against those that the champion was trained on."""

from pathlib import Path
from typing import Annotated, Any

from prefect.states import Completed
from pydantic import Field

from flows import leaving
from flows.command import ask
from flows.retrain import end_with_runner
from flows.sturdy import sturdy
from mmpipe.retrain import registering, summary

DRIFTED = 5
"""The exit status of `mmpipe drift` where the samples differ."""
NAMES = {"steady": "Steady", "drifted": "Drifted", "too few": "Waiting"}
Share = Annotated[float, Field(ge=0, le=1)]


@sturdy("drift-check")
async def drift_check(  # noqa: PLR0913 (a form)
    table: str = "landing",
    champion: str = registering.CHAMPION,
    at_least: Annotated[int, Field(ge=1)] = 20,
    alpha: Share = 0.01,
    min_distance: Share = 0.1,
    labels: bool = True,
    predictions: bool = True,
) -> Any:
    """Compare samples that have landed with the training data of the champion.

    A run ends as Steady, Drifted or, with too few samples that are new, Waiting; each check is a row of its
    table. Raises MmpipeError `step-failed`.

    Args:
        table: A table or landing folder, relative to the workspace; what the champion knows does not count.
        champion: A version or a stage.
        at_least: With fewer new samples nothing is said.
        alpha: Chance of a false alarm, of all checks together.
        min_distance: A smaller shift is none. 0 = the same distribution, 1 = nothing in common.
        labels: The samples have labels.
        predictions: Look at what the champion says of them, too.
    """
    end_with_runner()
    if champion == registering.CHAMPION and registering.champion(Path.cwd()) is None:
        return Completed(name="Skipped", message="no version holds the stage prod yet")
    if not Path(table).exists():
        return Completed(name="Waiting", message=f"{table} is not there: nothing has landed")
    thresholds = {"--at-least": at_least, "--alpha": alpha, "--min-distance": min_distance}
    flags = [word for name, value in thresholds.items() for word in (name, str(value))]
    flags += [] if labels else ["--unlabelled"]
    flags += [] if predictions else ["--no-predictions"]
    found = await ask("drift", "--champion", champion, *flags, "--", table, good=(0, DRIFTED))
    words = f"{table} against {found['model']}: {found['sentence']}"
    await leaving.markdown("drift", page(found, words), words=words)
    if found["checks"]:
        await leaving.table("drift-checks", rows(found), words=words)
    return Completed(name=NAMES[found["verdict"]], message=words)


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a check, those that drifted first, then by their distance."""
    ordered = sorted(found["checks"], key=lambda one: (not one["drifted"], -one["distance"]))
    names = ("name", "distance", "p", "most", "test")
    told = ["drifted" if one["drifted"] else "" for one in ordered]
    return [
        {**{name: one[name] for name in names}, "drifted": word}
        for one, word in zip(ordered, told, strict=True)
    ]


def page(found: dict[str, Any], words: str) -> str:
    """The verdict with what it rests on, as Markdown; labels are strangers' text."""
    told = [f"# {NAMES[found['verdict']]}", "", summary.cell(words), ""]
    told += [f"- {found['old']} samples in the champion's training split"]
    told += [f"- {found['new']} new samples, {found['known']} that it knows, {found['aside']} rows put aside"]
    for name, count in found["unknown_labels"].items():
        told.append(f"- {count} samples have the label {summary.cell(name)}, which it does not know")
    if found["checks"]:
        limits = f"p < {found['alpha']:g} after Holm's adjustment, and distance ≥ {found['min_distance']:g}"
        told += ["", f"Drifted is a check with {limits}.", ""]
        told += ["| check | distance | p | where most | |", "|---|---|---|---|---|"]
    for one in rows(found):
        cells = (one["name"], f"{one['distance']:.3f}", f"{one['p']:.3g}", one["most"], one["drifted"])
        told.append(f"| {' | '.join(map(summary.cell, cells))} |")
    return "\n".join(told) + "\n"
