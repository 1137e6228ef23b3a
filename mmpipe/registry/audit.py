"""Every artefact against its recorded hash: a bundle's files by sha256, DVC's outputs by dvc.lock's md5.

DVC itself believes an output whose time and size did not change, and checks nothing that it downloads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmpipe import bundle, lockfile, paths
from mmpipe.errors import MmpipeError, NotFoundError, VerificationError
from mmpipe.registry import pull, remote, tagged
from mmpipe.registry.records import Version

ADDED = ("*.dvc", "data/*.dvc", "models/*.dvc")
"""Where people add their own data."""
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Checked:
    """One artefact. `fault`: None where every byte is as recorded, else our error in one line."""

    name: str
    fault: str | None = None


def folder(place: Path) -> list[Checked]:
    """One bundle, each file."""
    try:
        return [Checked(str(place / name)) for name in bundle.read(place).files]
    except VerificationError as error:
        return [Checked(str(place), str(error))]


def workspace(root: Path, *, advance: Advance | None = None) -> list[Checked]:
    """Every output that dvc.lock and the `.dvc` files record, and the bundle.

    Raises NotFoundError where nothing was run.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        raise NotFoundError("workspace", "has no dvc.lock: nothing was run here", where=str(root))
    outs = _outs(lock.read_bytes())
    for name in sorted(path for pattern in ADDED for path in root.glob(pattern) if path.is_file()):
        outs += _added(name.read_bytes(), name.relative_to(root).as_posix())
    found = outputs(root, dict(outs), advance=advance)
    return found + (folder(root / paths.BUNDLE) if (root / paths.BUNDLE).is_dir() else [])


def outputs(root: Path, outs: Mapping[str, str], *, advance: Advance | None = None) -> list[Checked]:
    """Each output of {path: md5 as DVC records it}."""
    return [_local(root, path, recorded, advance) for path, recorded in outs.items()]


def tag(
    spec: str, source: str, *, public_key: Path | None = None, advance: Advance | None = None
) -> list[Checked]:
    """What a version's repository and its DVC remote hold: the bundle and every other recorded output.

    `public_key`: the bundle must be signed by it.
    """
    version = tagged.read(source).resolve(spec)
    found = [_published(version, source, public_key, advance)]
    with remote.opened(source, version.commit, version.name) as fs:
        lock = fs.read_bytes("dvc.lock") if fs.exists("dvc.lock") else b""  # `dvc add` writes none
        outs = _outs(lock)
        for name in sorted(name for pattern in ADDED for name in fs.glob(pattern)):
            outs += _added(fs.read_bytes(name), name)
        for path, recorded in outs:
            found.append(_remote(fs, source, path, recorded, advance))
    return found


def _published(version: Version, source: str, public_key: Path | None, advance: Advance | None) -> Checked:
    name = f"{version.tag} bundle {version.bundle_sha256[:12]}"
    try:
        contents = pull.fetch(version, source, advance=advance)
    except (VerificationError, NotFoundError) as error:
        return Checked(name, str(error))
    try:
        if public_key is not None:
            pull.check_signature(contents, version, public_key)
    except VerificationError as error:  # that the key is not there is no fault of the bundle
        return Checked(name, str(error))
    return Checked(name)


def _outs(lock: bytes) -> list[tuple[str, str]]:
    """(path, md5) of every output that a dvc.lock records, sorted."""
    stages = _tree(lock, "dvc.lock").get("stages", {}).values()
    return sorted(_recorded(out, "dvc.lock") for stage in stages for out in stage.get("outs", []))


def _added(data: bytes, name: str) -> list[tuple[str, str]]:
    """The same of a `.dvc` file, which `dvc add` writes."""
    tree = _tree(data, name)
    folder = PurePosixPath(name).parent / str(tree.get("wdir", "."))
    outs = [_recorded(out, name) for out in tree.get("outs", [])]
    return [((folder / path).as_posix(), md5) for path, md5 in outs]


def _tree(data: bytes, name: str) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe", pure=True).load(data) or {}
    except YAMLError as error:
        what = f"is no YAML ({' '.join(str(error).split())[:200]})"
        raise VerificationError("object-damaged", what, where=name) from None
    if not isinstance(tree, dict):
        raise VerificationError("object-damaged", "is no file of DVC's", where=name)
    return tree


def _recorded(out: Mapping[str, Any], name: str) -> tuple[str, str]:
    if "md5" not in out:
        what = f"records no md5 of {out.get('path')}: what a remote versions itself is not checked here"
        raise VerificationError("object-damaged", what, where=name)
    return str(out["path"]), str(out["md5"])


def _local(root: Path, path: str, recorded: str, advance: Advance | None) -> Checked:
    try:
        found = lockfile.hashed(root / path, advance=advance)
    except OSError as error:
        return Checked(path, _fault("object-missing", f"cannot be read ({error.strerror})", path))
    if found is None:
        return Checked(path, _fault("object-missing", "is not there", path))
    return _compared(path, found, recorded)


def _remote(fs: remote.Fs, source: str, path: str, recorded: str, advance: Advance | None) -> Checked:
    def md5(name: str) -> str:
        with fs.open(name, "rb") as file:
            return lockfile.md5_of(file, advance=advance)

    try:
        with remote.in_our_words(fs, source):
            if recorded.endswith(lockfile.DIR):
                names = {name[len(path) + 1 :]: name for name in fs.find(path)}
                found = lockfile.md5_of_folder({short: md5(name) for short, name in names.items()})
            else:
                found = md5(path)
    except (VerificationError, NotFoundError) as error:
        return Checked(path, _fault(error.code, error.what, path))
    return _compared(path, found, recorded)


def _compared(path: str, found: str, recorded: str) -> Checked:
    if found == recorded:
        return Checked(path)
    what = f"has md5 {found[:12]}, dvc.lock says {recorded[:12]}"
    return Checked(path, _fault("object-damaged", what, path))


def _fault(code: str, what: str, path: str) -> str:
    return str(MmpipeError(code, what, where=path, done="not used"))
