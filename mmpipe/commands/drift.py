"""The command `drift`: are new samples like those that the champion was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import InvalidError
from mmpipe.paths import BUNDLE, PARAMS, PIPELINE, PREDICTIONS, SAMPLES, SPLITS

CHAMPION = "fusion#prod"
if TYPE_CHECKING:
    import pyarrow as pa

    from mmpipe.compare.drift import Thresholds
    from mmpipe.compare.newcomers import Newcomers


@command("""
    mmpipe drift landing/
    mmpipe drift new.csv --unlabelled --champion fusion@v1.2.0
    mmpipe drift landing/ --alpha 0.05 --min-distance 0.2 --json
""")
def drift(  # noqa: PLR0913 (the options of one command)
    table: Annotated[Path, typer.Argument(help="A table of samples, or a landing folder.")],
    champion: Annotated[
        str, typer.Option(help="The model: a stage, a version, or the folder of a workspace.")
    ] = CHAMPION,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Chance of a false alarm, of all checks together.")
    ] = 0.01,
    min_distance: Annotated[
        float,
        typer.Option(min=0, max=1, help="A smaller shift is none: 0 = the same, 1 = nothing in common."),
    ] = 0.1,
    at_least: Annotated[int, typer.Option(min=1, help="With fewer new samples nothing is said.")] = 20,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="The samples have no labels.")] = False,
    no_predictions: Annotated[
        bool, typer.Option("--no-predictions", help="Do not look at what the model says of them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold new samples against those that the champion was trained on; exit status 5 = they differ."""
    from mmpipe.compare import drift as drifting

    thresholds = drifting.Thresholds(alpha, min_distance, at_least)
    found = compared(table, champion, thresholds, labelled=not unlabelled, predict=not no_predictions)
    if as_json:
        print_json(found)
    else:
        print_lines(drifting.lines(found))
    if found["verdict"] == "drifted":
        raise InvalidError("drifted", drifting.sentence(found), where=str(table))


def compared(
    table: Path, champion: str, thresholds: "Thresholds", *, labelled: bool, predict: bool
) -> dict[str, Any]:
    """`drift.compare` of the champion's training split and the table's new samples, by the params.yaml here.

    What the model says of them is held against what it said of its test split. Raises as `side.read`,
    `params.load` and `newcomers.read` do.
    """
    import pyarrow.compute as pc

    from mmpipe import schema
    from mmpipe.compare import drift as drifting
    from mmpipe.compare import newcomers, side

    model = side.read(champion)
    old, splits = model.table(SAMPLES, schema.SAMPLES), model.table(SPLITS, schema.SPLIT)
    new, kind = _newcomers(table, old, labelled=labelled)
    said = None
    if predict and len(new.samples) >= thresholds.at_least:
        from mmpipe.predict import load

        predictor = load(Path(champion, BUNDLE) if Path(champion, PIPELINE).is_file() else champion)
        before = model.table(PREDICTIONS)
        tested = before.filter(pc.equal(before["split"], "test"))
        told = newcomers.predicted(predictor, new.samples)
        said = drifting.Said(predictor.bundle.task.kind, tested, told)
    train = splits.filter(pc.equal(splits["split"], "train"))["id"]
    trained = old.filter(pc.is_in(old["id"], train.combine_chunks()))
    found = drifting.compare(trained, new.samples, thresholds, kind=kind, said=said)
    return {"model": model.name, "known": new.known, "aside": new.aside, **found}


def _newcomers(table: Path, old: "pa.Table", *, labelled: bool) -> tuple["Newcomers", str]:
    """Those of the table, and the kind of their targets."""
    from mmpipe import ingest, params
    from mmpipe.compare import newcomers, samples
    from mmpipe.inspection import Limits

    asked = params.load(PARAMS)
    target = ingest.Target(asked.data.target if labelled else "none", asked.data.separator)
    found = newcomers.read(
        table,
        asked.data.columns.model_dump(),
        Limits(**asked.ingest.model_dump(exclude={"max_bad_fraction", "timeout_s"})),
        timeout_s=asked.ingest.timeout_s,
        known={samples.content(row) for row in old.to_pylist()},
        target=target,
    )
    return found, target.kind
