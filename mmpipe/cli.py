"""The command line: all commands, and its entry point."""

from mmpipe.commands import predict, serve, workspace  # noqa: F401  (each adds its commands to the application)
from mmpipe.commands.console import app


def run() -> None:
    """The entry point of the `mmpipe` command."""
    app()
