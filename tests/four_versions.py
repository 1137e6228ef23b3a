"""Four published versions, as tags alone, and an origin: to be copied, promoted, rolled back."""

import contextlib
import shutil
from pathlib import Path

from test_tagged import Repository
from typer.testing import CliRunner

from mmpipe.cli import app
from mmpipe.registry.promote import Terms

FORCED = Terms(force=True, why="a test")


def make(site: Path) -> Repository:
    """The gate let v1.1.0 pass, refused v1.2.0 and was not asked about v1.3.0."""
    made = Repository(site / "w")
    made.git("init", "--quiet", "--bare", "--initial-branch", "main", "../origin.git")
    made.git("remote", "add", "origin", "../origin.git")
    made.publish("v1.0.0")
    for version, verdict in (("v1.1.0", "promote"), ("v1.2.0", "refuse"), ("v1.3.0", "none")):
        found = {"verdict": verdict, "reasons": [f"because of {verdict}"], "champion": "fusion@v1.0.0"}
        made.publish(version, Gate=found)
    made.git("push", "--quiet", "--tags", "origin", "main")
    return made


def copy(made: Repository, folder: Path) -> Repository:
    """Both repositories again, below `folder`."""
    shutil.copytree(made.root.parent, folder / "site")
    copied = Repository.__new__(Repository)
    copied.root = folder / "site/w"
    return copied


def call(root, *arguments):
    """A command in that folder."""
    with contextlib.chdir(root):
        return CliRunner().invoke(app, arguments, catch_exceptions=False)
