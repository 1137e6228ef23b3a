"""The command line: all commands, and its entry point."""

from mmpipe.commands import gate, models, predict, pull, schedule, workspace  # noqa: F401  (they add commands)
from mmpipe.commands.console import app


def run() -> None:
    """The entry point of the `mmpipe` command."""
    app()
