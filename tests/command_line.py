"""A line of a document or of a help text, read as the command line would read it; nothing is run."""

import re
import shlex

import typer
from typer.main import get_command

from mmpipe.cli import app

GROUP = get_command(app)
UsageError = typer.BadParameter.__mro__[1]  # click's, be it typer's own copy or the package


def parse(line: str) -> str:
    """The command that a line `mmpipe COMMAND …` names; click's UsageError if it would be refused."""
    program, *words = shlex.split(re.split(r" [>&|]", line)[0])
    assert program == "mmpipe"
    with GROUP.make_context("mmpipe", list(words)) as context:
        name, command, rest = GROUP.resolve_command(context, [*context._protected_args, *context.args])
        try:
            command.make_context(name, rest, parent=context).close()
        except typer.Exit:  # --help
            assert "--help" in words or "-h" in words
    return name
