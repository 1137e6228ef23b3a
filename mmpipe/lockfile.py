"""What DVC records of each stage in `dvc.lock`: with what it ran and what came out, by DVC's own hashes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmpipe import trees, yaml_text
from mmpipe.errors import InvalidError

NAME = "dvc.lock"
MAX_BYTES = 20_000_000
BLOCK = 1 << 20
DIR = ".dir"
"""How the md5 of a folder ends."""


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


def hashed(path: Path, *, advance: Callable[[int], object] | None = None) -> str | None:
    """A file's or folder's md5 as DVC has it; None where nothing is. `advance` is told the bytes read."""

    def of_file(place: Path) -> str:
        with place.open("rb") as file:
            return md5_of(file, advance=advance)

    if path.is_file():
        return of_file(path)
    if not path.is_dir():
        return None
    found = sorted(place for place in path.rglob("*") if place.is_file())
    return md5_of_folder({place.relative_to(path).as_posix(): of_file(place) for place in found})


def md5(data: bytes) -> str:
    """Hex digest; for equality with what DVC recorded, not against an adversary."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of(file: IO[bytes], *, advance: Callable[[int], object] | None = None) -> str:
    """The same of all that is left of an open file, read in blocks."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(BLOCK):
        digest.update(block)
        if advance is not None:
            advance(len(block))
    return digest.hexdigest()


def md5_of_folder(md5s: Mapping[str, str]) -> str:
    """As DVC has it of a folder, from {path in it: md5}: that of the sorted list of these."""
    listed = [{"md5": value, "relpath": name} for name, value in sorted(md5s.items())]
    return md5(json.dumps(listed, sort_keys=True).encode()) + DIR


def _stage(stage: Mapping[str, Any]) -> Recorded:
    params = {
        key: value for values in stage.get("params", {}).values() for key, value in trees.flat(values).items()
    }
    return Recorded(str(stage["cmd"]), params, _hashes(stage.get("deps", [])), _hashes(stage.get("outs", [])))


def _hashes(entries: list[Mapping[str, Any]]) -> dict[str, str]:
    return {str(entry["path"]): str(entry["md5"]) for entry in entries}
