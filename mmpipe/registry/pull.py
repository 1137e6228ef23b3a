"""A published model by its tag → a verified folder: all bytes are checked, then one rename places it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmpipe import bundle, paths
from mmpipe.bundle import MANIFEST, Contents, Origin
from mmpipe.errors import MmpipeError, NotFoundError, VerificationError
from mmpipe.registry import artifact, remote, signature, tagged
from mmpipe.registry.records import Version

MAX_MANIFEST = MAX_PIPELINE = 1 << 20


@dataclass(frozen=True)
class Pulled:
    """`folder`: where the bundle lies now. `fetched`: whether bytes came, or all were there before."""

    folder: Path
    origin: Origin
    fetched: bool
    size: int


def pull(
    spec: str,
    *,
    source: str = ".",
    into: Path | None = None,
    public_key: Path | None = None,
    advance: Callable[[int], object] | None = None,
) -> Pulled:
    """Bring the version that a spec names into `.mmpipe/models`, and if asked into the folder `into` as well.

    `public_key`: refuse what is not signed by it. `advance` is told the bytes that came. Whatever goes wrong,
    what was in place stays. Raises as `tagged.Registry.resolve`, `remote.opened` and `bundle.read` do.
    """
    version = tagged.read(source).resolve(spec)
    place = paths.MODELS / f"{version.name}@{version.version}"
    contents = _at_hand(place, version)
    fetched = contents is None
    if contents is None:
        contents = fetch(version, source, advance=advance)
    if public_key is not None:
        check_signature(contents, version, public_key)
    origin = _origin(version, source, contents.digest)
    if fetched:
        bundle.write(place, contents.files, origin=origin)
    if into is not None:
        _refuse_foreign(into)
        bundle.write(into, contents.files, origin=origin)
    size = sum(map(len, contents.files.values()))
    return Pulled(into or place, origin, fetched, size)


def resolve_folder(spec: str, source: str | None = None) -> Path:
    """The folder of the bundle that is meant: one that is there, or a pulled version of the tag named."""
    folder = Path(spec)
    if folder.exists() or not any(mark in spec for mark in "@#"):
        return folder
    return pull(spec, source=source or ".").folder


def fetch(version: Version, source: str, *, advance: Callable[[int], object] | None = None) -> Contents:
    """The bytes of a published bundle, each file checked against the manifest, and that against the tag.

    Raises VerificationError `object-damaged` naming the file, and as `remote.opened` does.
    """
    if not version.bundle_sha256:
        fix = "publish it with `mmpipe publish`"
        raise VerificationError("tag-moved", "records no hash of a bundle", where=version.tag, fix=fix)
    with remote.opened(source, version.commit, version.name) as fs:
        path = _path(fs, version)
        where = f"{remote.public(source)} {version.tag}:{path}"
        data = _read(fs, f"{path}/{MANIFEST}", MAX_MANIFEST)
        entries, digest = _parsed(data, f"{where}/{MANIFEST}")
        if digest != version.bundle_sha256:
            what = f"is of bundle {digest[:12]}, the tag says {version.bundle_sha256[:12]}"
            raise VerificationError("object-damaged", what, where=f"{where}/{MANIFEST}")
        found = {}
        for entry in entries:
            found[entry.path] = data = _read(fs, f"{path}/{entry.path}", entry.size)
            _check(entry, data, f"{where}/{entry.path}")
            if advance is not None:
                advance(len(data))
    return Contents(found, digest)


def check_signature(contents: Contents, version: Version, public_key: Path) -> None:
    """Raise as `signature.verify` does unless the version's tag carries the key's signature of it."""
    paths.PRIVATE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.PRIVATE) as scratch:
        folder = Path(scratch, version.name)
        bundle.write(folder, contents.files)
        signature.verify(folder, version.signature, public_key, where=version.tag)


def _at_hand(place: Path, version: Version) -> Contents | None:
    """What was pulled before, if it is whole and this version's."""
    try:
        found = bundle.read(place)
    except MmpipeError:  # not there, or damaged: it is brought anew
        return None
    return found if found.digest == version.bundle_sha256 else None


def _origin(version: Version, source: str, digest: str) -> Origin:
    return Origin(version.name, version.version, version.tag, version.commit, remote.public(source), digest)


def _refuse_foreign(into: Path) -> None:
    """A folder that holds anything but a bundle is not ours to replace."""
    fix = "give --into another place"
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise NotFoundError("bundle-missing", "is no folder", where=str(into), fix=fix)
    strangers = {path.name for path in into.iterdir()} - bundle.KNOWN if into.is_dir() else set()
    if strangers:
        what = f"holds {min(strangers)!r}, which is of no bundle"
        raise NotFoundError("bundle-missing", what, where=str(into), fix=fix)


def _path(fs: remote.Fs, version: Version) -> str:
    """Of the model in its workspace, by the dvc.yaml of the commit."""
    name = version.name.split(":")[-1]
    path = artifact.path_of(
        _read(fs, paths.PIPELINE.as_posix(), MAX_PIPELINE).decode("utf-8", "replace"), name
    )
    if path is None:
        raise NotFoundError("object-missing", f"its dvc.yaml has no artifact {name!r}", where=version.tag)
    return path


def _read(fs: remote.Fs, path: str, limit: int) -> bytes:
    with fs.open(path, "rb") as file:
        data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise VerificationError("object-damaged", f"is larger than {limit:,} bytes", where=path)
    return data


def _parsed(data: bytes, where: str) -> tuple[list[bundle.Entry], str]:
    try:
        return bundle.parse(data, where)
    except VerificationError as error:
        raise VerificationError("object-damaged", error.what, where=where) from None


def _check(entry: bundle.Entry, data: bytes, where: str) -> None:
    try:
        entry.check(data, where)
    except VerificationError as error:
        raise VerificationError("object-damaged", error.what, where=where) from None
