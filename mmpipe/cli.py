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
    """Make a workspace: dvc.yaml, a params.yaml that fits the data, git and DVC set up."""
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
    file: Annotated[Path, typer.Argument(help="The file to check.")] = Path("params.yaml"),
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema instead.")] = False,
    as_json: Json = False,
) -> None:
    """Check params.yaml and print every parameter with its value and meaning."""
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
""")
def predict(
    table: Annotated[
        Path | None, typer.Argument(help="A table of samples, with columns as in training.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording.")] = None,
    model: Annotated[Path, typer.Option(help="The folder of a model bundle.")] = Path("models/fusion"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Parquet to write for a table.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict one sample from any of its modalities, or a table of samples, by the bundle alone."""
    one = {
        key: value for key, value in (("image", image), ("text", text), ("audio", audio)) if value is not None
    }
    if (table is None) == (not one) or (output is not None and table is None):
        raise UsageError(
            "usage", "give --image, --text and --audio as far as there are such, or a TABLE with -o"
        )
    if table is not None and output is None:
        raise UsageError("usage", "a TABLE needs -o FILE.parquet for its predictions")
    from mmpipe.commands.predict import predict_one, predict_table

    if table is not None and output is not None:
        predict_table(model, table, output)
    else:
        predict_one(model, one, as_json=as_json)


@command("mmpipe version --json")
def version(as_json: Json = False) -> None:
    """Print the versions of mmpipe and of the libraries that its results depend on."""
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
