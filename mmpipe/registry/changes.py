"""How much a model differs from the one published before it: what of its version number goes up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmpipe import bundle
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.registry.records import Version
from mmpipe.tags import Part

Config = Mapping[str, Any]
MAJOR: dict[str, Callable[[Config], Any]] = {
    "labels": lambda config: config.get("labels"),
    "task": lambda config: config.get("task"),
    "modalities": lambda config: (config.get("architecture") or {}).get("modalities"),
}
"""What those who use a model see of it: input and output."""
MINOR: dict[str, Callable[[Config], Any]] = {
    "params": lambda config: config.get("params"),
    "data": lambda config: config.get("data_sha256"),
    "architecture": lambda config: config.get("architecture"),
}


def judge(old: Config, new: Config) -> tuple[Part, list[str]]:
    """The part of the version to raise, and what differs: of two config.json."""
    for part, parts in (("major", MAJOR), ("minor", MINOR)):
        if changed := [name for name, get in parts.items() if get(old) != get(new)]:
            return ("major" if part == "major" else "minor"), changed
    return "patch", []


def config_of(top: Path, version: Version, path: str) -> dict[str, Any]:
    """config.json of a published version, from DVC's cache or remote, checked against the version's tag.

    `top`: of the git work tree. `path`: of the bundle below it.

    Raises InvalidError `bundle-missing` where it cannot be had or is not what the tag says.
    """
    try:
        manifest, config = _fetch(top, version.commit, path)
        entries, digest = bundle.parse(manifest, bundle.MANIFEST)
        entry = next(entry for entry in entries if entry.path == bundle.CONFIG)
        entry.check(config, bundle.CONFIG)
        if version.bundle_sha256 not in ("", digest):
            raise VerificationError("bundle-damaged", "is of another bundle than the tag says")
        return bundle.parse_object(config, bundle.CONFIG)
    except (OSError, VerificationError) as error:
        words = " ".join(str(error).split())
        what = f"config.json of {version.tag} cannot be had, to see what changed since ({words})"
        fix = "say what changed: --bump major, minor or patch"
        raise InvalidError("bundle-missing", what, done="nothing was tagged", fix=fix) from None


def _fetch(top: Path, commit: str, path: str) -> tuple[bytes, bytes]:
    """manifest.json and config.json of the bundle at a commit. Raises OSError."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        store = DVCFileSystem(url=str(top), rev=commit, subrepos=True)
        manifest, config = (store.read_bytes(f"{path}/{name}") for name in (bundle.MANIFEST, bundle.CONFIG))
    except (DvcException, SCMError) as error:
        raise OSError(str(error)) from None
    return manifest, config
