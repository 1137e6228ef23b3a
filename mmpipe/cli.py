"""The command line: each command checks its arguments, calls the library and prints."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmpipe import __version__
from mmpipe.errors import FIXES, UsageError
from mmpipe.paths import BUNDLE, PARAMS
from mmpipe.stages.process import status
from mmpipe.terminal import printable


class Guarded(TyperGroup):
    """Foreseen errors become one line on stderr and the exit statuses of docs/errors.md."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        code = status(lambda: super(Guarded, self).invoke(ctx))
        if code:
            raise typer.Exit(code)


app = typer.Typer(
    name="mmpipe",
    cls=Guarded,
    help="Raw images, text and recorded sound to a trained, evaluated, versioned multimodal model.\n\n"
    "The pipeline itself is run by `dvc repro` in a workspace that `mmpipe init` makes.",
    epilog="\b\nExamples:\n  mmpipe init my-project --from rows.csv\n  mmpipe quarantine\n"
    '  mmpipe predict --text "a small cat"\n  mmpipe init --help',
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run() -> None:
    """The entry point of the `mmpipe` command."""
    app()


@app.callback()
def main(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Set what holds for every command."""
    if debug:
        os.environ["MMPIPE_DEBUG"] = "1"


def command(examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose help ends with examples, a line each."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    return app.command(epilog=f"\b\nExamples:\n{lines}")


@command("""
    mmpipe init my-project --from rows.csv
    mmpipe init my-project --from photos-by-class/
    mmpipe init demo --corpus shapes
""")
def init(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV, JSONL or Parquet table, or a folder with a subfolder a class."),
    ] = None,
    corpus: Annotated[str, typer.Option(help="A corpus to fetch: stamps, shapes or none.")] = "none",
    target: Annotated[str | None, typer.Option(help="The column with the labels.")] = None,
    as_json: Json = False,
) -> None:
    """Make a workspace whose params.yaml fits the data; git and DVC are set up."""
    from mmpipe import init as workspace

    if corpus not in ("stamps", "shapes", "none"):
        raise UsageError("usage", f"--corpus is stamps, shapes or none, not {corpus!r}")
    made = workspace.init(folder, source=source, corpus=corpus, target=target)
    if as_json:
        _print_json({**vars(made), "root": str(made.root)})
        return
    columns = ", ".join(f"{key}: {name!r}" for key, name in made.columns.items() if name)
    said = [f"{folder} is a workspace", *made.notes, *([f"columns: {columns}"] if columns else [])]
    said += [f"{made.copied} files copied to {folder}/data/raw"] if made.copied else []
    _print_lines([*said, f"next: look at {folder}/params.yaml, then cd {folder} && dvc repro"])


@command("""
    mmpipe params
    mmpipe params --schema > params.schema.json
    mmpipe params --json
""")
def params(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = PARAMS,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema instead.")] = False,
    as_json: Json = False,
) -> None:
    """Check params.yaml and print every parameter."""
    from mmpipe import params as parameters
    from mmpipe.files import canonical_json

    if schema:
        typer.echo(canonical_json(parameters.schema()), nl=False)
        return
    loaded = parameters.load(file)
    if as_json:
        _print_json(loaded.model_dump())
    else:
        typer.echo(parameters.render(loaded), nl=False)


@command("""
    mmpipe quarantine
    mmpipe quarantine --code image-damaged
    mmpipe quarantine --json
""")
def quarantine(
    code: Annotated[str | None, typer.Option(help="Only rows with this code.")] = None, as_json: Json = False
) -> None:
    """List the rows that were put aside, with cause and fix."""
    from mmpipe.overview import put_aside

    if code is not None and code not in FIXES:
        raise UsageError("usage", f"there is no code {code!r}; docs/errors.md lists them")
    rows = [row for row in put_aside() if code in (None, row["code"])]
    if as_json:
        _print_json(rows)
        return
    _print_lines(
        f"{row['code']} {row['where']} ({row['id']}) {row['message']} — put aside — Fix: {row['fix']}"
        for row in rows
    )
    counts = Counter(row["code"] for row in rows)
    _print_lines([f"{len(rows)} rows put aside{_listed(counts)}"])


@command("""
    mmpipe samples
    mmpipe samples --json
""")
def samples(as_json: Json = False) -> None:
    """Count samples by split, modality and label."""
    from mmpipe.overview import counted

    found = counted()
    if as_json:
        _print_json(found)
        return
    _print_lines([f"{found['rows']} samples"])
    for name in ("splits", "modalities", "targets"):
        _print_lines([name, *(f"  {count:>7,}  {key}" for key, count in found[name].items())])


@command("""
    mmpipe predict --image cat.jpg --text "a small cat"
    mmpipe predict --audio miaow.wav --json
    mmpipe predict rows.csv -o predictions.parquet
    mmpipe predict rows.csv -o predictions.csv --column image=photo --column text=caption
""")
def predict(
    table: Annotated[Path | None, typer.Argument(help="A CSV, JSONL or Parquet table of samples.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording.")] = None,
    model: Annotated[Path, typer.Option(help="The folder of a model bundle.")] = BUNDLE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For a table: the .parquet, .jsonl or .csv to write."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="KEY=NAME of a table's column; unless given, as params.yaml here says."),
    ] = None,
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
    if table is not None and output is not None:
        _predict_table(model, table, output, column or [], as_json=as_json)
        return
    from mmpipe.predict import load

    found = load(model).predict(image=image, text=text, audio=audio)
    ranked = sorted(found.probabilities.items(), key=lambda pair: -pair[1])
    if as_json:
        _print_json({**vars(found), "probabilities": dict(ranked)})
    else:
        used = "+".join(found.modalities)
        _print_lines(
            [f"{found.label}  (from {used})", *(f"  {chance:6.1%}  {label}" for label, chance in ranked[:5])]
        )


def _predict_table(model: Path, table: Path, output: Path, column: list[str], *, as_json: bool) -> None:
    columns = _columns(column)
    from mmpipe.predict import load
    from mmpipe.predict_table import predict_table

    counts = predict_table(load(model), table, output, columns=columns)
    if as_json:
        _print_json(vars(counts))
        return
    refused = sum(counts.refused.values())
    _print_lines(
        [f"{counts.rows} rows = {counts.predicted} predicted + {refused} refused{_listed(counts.refused)}"]
    )


def _columns(given: list[str]) -> dict[str, str | None]:
    """Which column of a table holds what: as params.yaml here says, changed by `given`."""
    from mmpipe import manifest, params

    own = params.load(PARAMS).data.columns.model_dump() if PARAMS.is_file() else manifest.COLUMNS
    columns = {**own, "target": None, "group": None, "split": None}
    for pair in given:
        key, equals, name = pair.partition("=")
        if not equals or key not in ("id", "image", "text", "text_path", "audio"):
            raise UsageError("usage", f"--column is id, image, text, text_path or audio = NAME, not {pair!r}")
        columns[key] = name or None
    return columns


@command("""
    mmpipe unlock
    mmpipe unlock --json
""")
def unlock(as_json: Json = False) -> None:
    """Remove a DVC lock that a kill left, where `dvc repro` says corrupted or busy for nothing."""
    from mmpipe.locks import heal

    said = heal(Path())
    if as_json:
        _print_json(said)
    else:
        _print_lines(said or ["no stale lock"])


@command("""
    mmpipe version
    mmpipe version --json
""")
def version(as_json: Json = False) -> None:
    """Print the versions that results depend on."""
    import platform
    from importlib import metadata

    names = ("dvc", "numpy", "opencv-python", "opencv-python-headless", "pyarrow", "soundfile", "tokenizers")
    found = {"mmpipe": __version__, "python": platform.python_version()}
    for name in (*names, "torch", "torchaudio"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if as_json:
        _print_json(found)
    else:
        _print_lines(f"{name} {number}" for name, number in found.items())


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(printable(line))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {code}' for code, count in sorted(counts.items()))})" if counts else ""
