"""The outputs that a version recorded, as far as its repository and its DVC remote still have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import bundle, lockfile
from mmpipe.compare.side import fetched
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.registry import pull, remote
from mmpipe.registry.records import Version
from mmpipe.reproduce import distance

MOST_FILES = 64
"""Of one output whose bytes are compared; of others only the number is told."""


@dataclass(frozen=True)
class Original:
    """A version in the repository `source`."""

    version: Version
    source: str

    def config(self) -> tuple[dict[str, Any], str]:
        """The published bundle's config.json and "", or {} and why that bundle is not to be had."""
        try:
            contents = pull.fetch(self.version, self.source)
        except (NotFoundError, VerificationError) as error:
            return {}, f"{error.where} {error.what}"
        return bundle.parse_object(contents.files[bundle.CONFIG], bundle.CONFIG), ""

    def read(self, path: str) -> bytes | None:
        """A file's bytes, checked against what was recorded; None where they are not to be had."""
        with remote.opened(self.source, self.version.commit, self.version.name) as fs:
            return fetched(fs, path)

    def distance(self, path: str, root: Path) -> distance.Distance:
        """How far the output `path` of the workspace `root` is from the recorded one."""
        now = _listed(root, path)
        with remote.opened(self.source, self.version.commit, self.version.name) as fs:
            was = _recorded(fs, path)
            if not was:
                return distance.Distance("the recorded one is not to be had")
            names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
            old = {
                name: fetched(fs, f"{path}/{name}" if name else path)
                for name in names[:MOST_FILES]
                if name in was
            }
        if None in old.values():
            return distance.Distance(f"{len(names)} files differ; the recorded ones are not to be had")
        new = {name: (root / path / name).read_bytes() for name in names[:MOST_FILES] if name in now}
        found = distance.between({name: data for name, data in old.items() if data is not None}, new)
        if bundle.WEIGHTS in was and bundle.WEIGHTS not in names:
            return distance.Distance(f"the same weights; {found.what}")
        more = len(names) - MOST_FILES
        return distance.Distance(f"{found.what}; {more} more files") if more > 0 else found


def _recorded(fs: remote.Fs, path: str) -> dict[str, str]:
    """{path below the output, "" for the output itself if it is a file: md5}; {} for what is not there."""
    if not fs.exists(path):
        return {}
    if not fs.isdir(path):
        return {"": _md5(fs, path, fs.info(path))}
    found: Mapping[str, Any] = fs.find(path, detail=True)
    return {name[len(path) + 1 :]: _md5(fs, name, info) for name, info in found.items()}


def _md5(fs: remote.Fs, name: str, info: Mapping[str, Any]) -> str:
    """As DVC recorded it; of a file that git holds, computed."""
    return str(info.get("md5") or lockfile.md5(fs.read_bytes(name)))


def _listed(root: Path, path: str) -> dict[str, str]:
    """As `_recorded`, of what lies in the workspace."""
    place = root / path
    if place.is_file():
        return {"": lockfile.md5(place.read_bytes())}
    found = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else []
    return {p.relative_to(place).as_posix(): lockfile.md5(p.read_bytes()) for p in found}
