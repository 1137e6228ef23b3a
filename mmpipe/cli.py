"""The command line: all commands, and its entry point."""

from mmpipe.commands import compare, gate, models, predict, pull, workspace  # noqa: F401  (each adds its commands)
from mmpipe.commands.console import app


def run() -> None:
    """The entry point of the `mmpipe` command."""
    app()
