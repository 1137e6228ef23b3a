"""The environment that a version was made in, held against this one: library versions, kind of machine."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mmpipe import bundle, paths, trees

Tree = Mapping[str, Any]
DISTRIBUTIONS = {"opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python")}
"""Name in a bundle → distributions, of which any is the same library; any other name is that of its own."""


def here(recorded: Tree, mmpipe: str) -> dict[str, str | None]:
    """{library that was recorded: its version here, None without it}; `mmpipe`: the one that stages run."""
    return {**{name: _version(name) for name in recorded.get("libraries") or {}}, "mmpipe": mmpipe}


def libraries(recorded: Tree, found: Tree) -> list[trees.Change]:
    """What differs between a config's libraries and those here; nothing where none were recorded."""
    was = recorded.get("libraries") or {}
    return trees.changes(was, {name: found[name] for name in was})


def machine(recorded: Tree, root: Path) -> list[trees.Change] | None:
    """What differs between a config's machine and the one that trained in `root`; None before it has."""
    path = root / paths.TRAINED / bundle.CONFIG
    if not path.is_file() or "machine" not in recorded:
        return None
    now = bundle.parse_object(path.read_bytes(), str(path))
    return trees.changes(recorded["machine"], now.get("machine") or {})


def versions(mmpipe: str) -> dict[str, str | None]:
    """Of what ran the pipeline itself."""
    system = f"{platform.system()} {platform.machine()}"
    return {"mmpipe": mmpipe, "python": platform.python_version(), "dvc": _version("dvc"), "system": system}


def _version(name: str) -> str | None:
    names = DISTRIBUTIONS.get(name, (name,))
    return next((found.version for one in names for found in metadata.distributions(name=one)), None)
