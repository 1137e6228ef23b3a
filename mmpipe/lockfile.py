"""What DVC records of each stage in `dvc.lock`: with what it ran and what came out, by DVC's own hashes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import trees, yaml_text
from mmpipe.errors import InvalidError

NAME = "dvc.lock"
MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class Recorded:
    """One stage. `deps` and `outs`: {path: md5, of a folder ending in .dir}. `params`: {dotted key: it}."""

    command: str
    params: dict[str, Any]
    deps: dict[str, str]
    outs: dict[str, str]


def parse(data: bytes, where: str = NAME) -> dict[str, Recorded]:
    """{stage: what is recorded of it}. Raises InvalidError `params` for what is no lock file of DVC."""
    tree = yaml_text.parse(data, Path(where), max_bytes=MAX_BYTES).plain()
    try:
        return {name: _stage(stage) for name, stage in tree.get("stages", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        fix = "run `dvc repro` and commit what it wrote"
        raise InvalidError("params", f"is no lock file of DVC ({error!r})", where=where, fix=fix) from None


def hashed(path: Path) -> str | None:
    """A file's or folder's md5 as DVC has it; None where there is nothing."""
    if path.is_file():
        return md5(path.read_bytes())
    if not path.is_dir():
        return None
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    listed = [{"md5": md5((path / name).read_bytes()), "relpath": name} for name in names]
    return md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def md5(data: bytes) -> str:
    """Hex digest; for equality with what DVC recorded, not against an adversary."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _stage(stage: Mapping[str, Any]) -> Recorded:
    params = {
        key: value for values in stage.get("params", {}).values() for key, value in trees.flat(values).items()
    }
    return Recorded(str(stage["cmd"]), params, _hashes(stage.get("deps", [])), _hashes(stage.get("outs", [])))


def _hashes(entries: list[Mapping[str, Any]]) -> dict[str, str]:
    return {str(entry["path"]): str(entry["md5"]) for entry in entries}
