"""The command line: all commands, and its entry point."""

# Each module adds its commands to the application.
from mmpipe.commands import (  # noqa: F401
    compare,
    cost,
    drift,
    export,
    gate,
    models,
    predict,
    pull,
    schedule,
    search,
    serve,
    sweep,
    workspace,
)
from mmpipe.commands.console import app


def run() -> None:
    """The entry point of the `mmpipe` command."""
    app()
