"""Commands about a workspace: make one, check its parameters, list its rows, heal its lock."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from mmpipe import __version__
from mmpipe.commands.console import Json, command, listed, print_json, print_lines
from mmpipe.errors import FIXES, UsageError
from mmpipe.paths import PARAMS


@command("""
    mmpipe init my-project --from rows.csv
    mmpipe init my-project --from photos-by-class/
    mmpipe init demo --corpus shapes
    mmpipe init faces --recipe emoji
""")
def init(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV, JSONL or Parquet table, or a folder with a subfolder a class."),
    ] = None,
    corpus: Annotated[str, typer.Option(help="A corpus to fetch: stamps, shapes or none.")] = "none",
    recipe: Annotated[
        str | None, typer.Option(help="A corpus with parameters that suit it: docs/recipes.md.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column of what is to be predicted.")] = None,
    as_json: Json = False,
) -> None:
    """Make a workspace whose params.yaml fits the data; git and DVC are set up."""
    from mmpipe import init as workspace

    if corpus not in ("stamps", "shapes", "none"):
        raise UsageError("usage", f"--corpus is stamps, shapes or none, not {corpus!r}")
    made = workspace.init(folder, source=source, corpus=corpus, recipe=recipe, target=target)
    if as_json:
        print_json({**vars(made), "root": str(made.root)})
        return
    columns = ", ".join(f"{key}: {name!r}" for key, name in made.columns.items() if name)
    said = [f"{folder} is a workspace", *made.notes, *([f"columns: {columns}"] if columns else [])]
    said += [f"{made.copied} files copied to {folder}/data/raw"] if made.copied else []
    print_lines([*said, f"next: look at {folder}/params.yaml, then cd {folder} && dvc repro"])


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
        print_json(loaded.model_dump())
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
        print_json(rows)
        return
    print_lines(
        f"{row['code']} {row['where']} ({row['id']}) {row['message']} — put aside — Fix: {row['fix']}"
        for row in rows
    )
    counts = Counter(row["code"] for row in rows)
    print_lines([f"{len(rows)} rows put aside{listed(counts)}"])


@command("""
    mmpipe samples
    mmpipe samples --json
""")
def samples(as_json: Json = False) -> None:
    """Count samples by split, modality and label."""
    from mmpipe.overview import counted

    found = counted()
    if as_json:
        print_json(found)
        return
    print_lines([f"{found['rows']} samples"])
    for name in ("splits", "modalities", "targets"):
        print_lines([name, *(f"  {count:>7,}  {key}" for key, count in found[name].items())])


@command("""
    mmpipe unlock
    mmpipe unlock --json
""")
def unlock(as_json: Json = False) -> None:
    """Remove a DVC lock that a kill left, where `dvc repro` says corrupted or busy for nothing."""
    from mmpipe.locks import heal

    said = heal(Path())
    if as_json:
        print_json(said)
    else:
        print_lines(said or ["no stale lock"])


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
        print_json(found)
    else:
        print_lines(f"{name} {number}" for name, number in found.items())
