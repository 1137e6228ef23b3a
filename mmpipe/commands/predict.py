"""The command `predict`: one sample, or a table of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmpipe.commands.console import Json, command, listed, print_json, print_lines
from mmpipe.errors import UsageError
from mmpipe.paths import BUNDLE, PARAMS

_KEYS = ("id", "image", "text", "text_path", "history", "audio")


@command("""
    mmpipe predict --image cat.jpg --text "a small cat"
    mmpipe predict --audio miaow.wav --json
    mmpipe predict --image cat.jpg --text "is it old?" --history '[["what is it?", "a cat"]]'
    mmpipe predict --image cat.jpg --text "a small cat" --explain
    mmpipe predict --text "a small cat" --model fusion#prod --from /srv/models.git
    mmpipe predict rows.csv -o predictions.parquet
    mmpipe predict rows.csv -o predictions.csv --column image=photo --column text=caption
""")
def predict(  # noqa: PLR0913 (the options of one command)
    table: Annotated[Path | None, typer.Argument(help="A CSV, JSONL or Parquet table of samples.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording.")] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Turns before the question in --text, as JSON: [[question, answer], …]."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The folder of a bundle, or a version such as fusion#prod, which is pulled.")
    ] = str(BUNDLE),
    source: Annotated[
        str | None, typer.Option("--from", help="The repository that publishes the model: a folder or a URL.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For a table: the .parquet, .jsonl or .csv to write."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="KEY=NAME of a table's column; unless given, as params.yaml here says."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="For one sample: say what each modality adds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predict one sample, of any modalities, or a table."""
    given = [
        name
        for name, value in (("--image", image), ("--text", text), ("--audio", audio))
        if value is not None
    ]
    if (table is None) != (output is None) or (table is None) == (not given):
        what = "give either --image, --text and --audio as far as there are such, or a TABLE with -o FILE"
        raise UsageError("usage", what)
    if table is not None and explain:
        raise UsageError("usage", "--explain is for one sample, not for a table")
    if table is not None and output is not None:
        _predict_table((model, source), table, output, column or [], as_json=as_json)
        return
    from mmpipe.predict import load

    predictor = load(model, source=source)
    ask = predictor.explain if explain else predictor.predict
    found = ask(image=image, text=_dialogue(text, history), audio=audio)
    if as_json:
        print_json(vars(found))
    else:
        first, *rest = predictor.bundle.task.lines(found)
        print_lines([f"{first}  (from {'+'.join(found.modalities)})", *rest])
        share = predictor.bundle.task.kind != "number"
        print_lines(_shares(vars(found), share=share) if explain else [])


def _dialogue(text: str | None, history: str | None) -> str | None:
    """The text, behind its earlier turns."""
    if history is None:
        return text
    from mmpipe.answers import turns

    if text is None:
        raise UsageError("usage", "--history needs --text, the question that comes next")
    try:
        return turns.join(turns.read(history), text)
    except ValueError as error:
        raise UsageError("usage", f"--history {error}") from None


def _shares(found: dict[str, Any], *, share: bool) -> list[str]:
    """What each modality adds: to a probability in percentage points, else to the number."""

    def told(value: float, sign: str = "") -> str:
        return f"{100 * value:{sign}6.1f}" if share else f"{value:{sign}9.4g}"

    added = [f"  {told(one, '+')}   {m}" for m, one in found["contributions"].items()]
    head = "what each modality adds" + (", in points:" if share else ":")
    return [head, f"  {told(found['baseline'])}   nothing given", *added]


def _predict_table(
    model: tuple[str, str | None], table: Path, output: Path, column: list[str], *, as_json: bool
) -> None:
    columns = _columns(column)
    from functools import partial

    from mmpipe.predict import load
    from mmpipe.predict_table import predict_table
    from mmpipe.progress import bar

    predictor = load(model[0], source=model[1])
    counts = predict_table(predictor, table, output, columns=columns, watch=partial(bar, "predict"))
    if as_json:
        print_json(vars(counts))
        return
    refused = sum(counts.refused.values())
    print_lines(
        [f"{counts.rows} rows = {counts.predicted} predicted + {refused} refused{listed(counts.refused)}"]
    )


def _columns(given: list[str]) -> dict[str, str | None]:
    """Which column of a table holds what: as params.yaml here says, changed by `given`."""
    from mmpipe import manifest, params

    own = params.load(PARAMS).data.columns.model_dump() if PARAMS.is_file() else manifest.COLUMNS
    columns = {**own, "target": None, "group": None, "split": None}
    for pair in given:
        key, equals, name = pair.partition("=")
        if not equals or key not in _KEYS:
            named = f"{', '.join(_KEYS[:-1])} or {_KEYS[-1]}"
            raise UsageError("usage", f"--column is {named} = NAME, not {pair!r}")
        columns[key] = name or None
    return columns
