"""What every command has in common: the application, its errors, its help with examples, its printing."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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


@app.callback()
def main(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Set what holds for every command."""
    if debug:
        os.environ["MMPIPE_DEBUG"] = "1"


def command(examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose help ends with examples, a line each."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    return app.command(epilog=f"\b\nExamples:\n{lines}")


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Each line made harmless for a terminal; on stderr if so wished."""
    for line in lines:
        typer.echo(printable(line), err=err)


def print_json(value: Any) -> None:
    """For programs."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def listed(counts: Mapping[str, int]) -> str:
    """Counts in brackets, or nothing."""
    return f" ({', '.join(f'{count} {code}' for code, count in sorted(counts.items()))})" if counts else ""
