"""A bundle's bytes: one folder that is a trained model, every file of it hashed. No torch, nothing unpickled.

::

    model.safetensors   weights and normalisation moments
    config.json         architecture, labels, task, preprocessing, temperature, where it came from
    frozen-*.safetensors    of each modality whose vectors a pretrained backbone makes
    tokenizer.json      where the model reads text
    decoding.safetensors    where a language model helps to decode
    metrics.json        of held-out samples
    README.md           the model card, once the model is evaluated
    manifest.json       path, size and sha256 of each of these, and a digest of that list
    origin.json         beside them where the bundle was pulled: which tag of which repository it is
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmpipe import files
from mmpipe.errors import InvalidError, NotFoundError, VerificationError

MANIFEST = "manifest.json"
ORIGIN = "origin.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
METRICS = "metrics.json"
DECODING = "decoding.safetensors"
CARD = "README.md"
FROZEN = {modality: f"frozen-{modality}.safetensors" for modality in ("audio", "image", "text")}
NEEDED = frozenset({CONFIG, METRICS, WEIGHTS})
ALLOWED = NEEDED | {TOKENIZER, DECODING, CARD, *FROZEN.values()}
KNOWN = ALLOWED | {MANIFEST, ORIGIN}
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
MAX_BYTES = 1 << 36
"""Of one file: no manifest makes a reader ask for more."""


@dataclass(frozen=True)
class Origin:
    """Where a pulled bundle comes from. `source`: the repository's path or URL, without credentials."""

    name: str
    version: str
    tag: str
    commit: str
    source: str
    bundle_sha256: str

    def data(self) -> bytes:
        """The bytes of `origin.json`, which carry their own hash."""
        told = asdict(self)
        return files.canonical_json({**told, "sha256": _digest(told)}).encode()


@dataclass(frozen=True)
class Contents:
    """`files`: {name: bytes} of all but the manifest. `digest`: hex sha256 over the whole bundle."""

    files: dict[str, bytes]
    digest: str
    origin: Origin | None = None


@dataclass(frozen=True)
class Entry:
    """A file that a manifest lists."""

    path: str
    size: int
    sha256: str

    def check(self, data: bytes, where: str) -> None:
        """Raise VerificationError `bundle-damaged` where these are other bytes than the manifest's."""
        if len(data) != self.size or files.sha256(data) != self.sha256:
            what = f"has sha256 {files.sha256(data)[:12]}, the manifest says {self.sha256[:12]}"
            raise VerificationError("bundle-damaged", what, where=where)


def seal(contents: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The manifest's bytes and the digest of files that are to be a bundle."""
    assert contents.keys() >= NEEDED and contents.keys() <= ALLOWED, sorted(contents)
    entries = [
        {"path": name, "size": len(data), "sha256": files.sha256(data)}
        for name, data in sorted(contents.items())
    ]
    digest = _digest(entries)
    return files.canonical_json({"files": entries, "bundle_sha256": digest}).encode(), digest


def write(folder: Path, contents: Mapping[str, bytes], *, origin: Origin | None = None) -> str:
    """Write a bundle whole and return its digest; `folder` is replaced by one rename."""
    manifest, digest = seal(contents)
    with files.atomic_folder(folder) as fresh:
        for name, data in contents.items():
            files.write_bytes(fresh / name, data)
        if origin is not None:
            files.write_bytes(fresh / ORIGIN, origin.data())
        files.write_bytes(fresh / MANIFEST, manifest)
    return digest


def read(folder: Path) -> Contents:
    """Read each file once and check it against the manifest.

    Raises NotFoundError `bundle-missing`, VerificationError `bundle-damaged` naming the file, or InvalidError
    `bundle-format` for a pickle.
    """
    _refuse_pickles(folder)
    if not (folder / MANIFEST).is_file():
        raise NotFoundError("bundle-missing", f"is no bundle: it has no {MANIFEST}", where=str(folder))
    entries, digest = parse(_bytes(folder / MANIFEST), str(folder / MANIFEST))
    found = {path.name for path in folder.iterdir()} - {MANIFEST, ORIGIN}
    if odd := sorted(found ^ {entry.path for entry in entries}):
        what = "is not in the manifest" if odd[0] in found else "is missing"
        raise VerificationError("bundle-damaged", what, where=str(folder / odd[0]))
    contents = {}
    for entry in entries:
        contents[entry.path] = _bytes(folder / entry.path)
        entry.check(contents[entry.path], str(folder / entry.path))
    return Contents(contents, digest, _origin(folder / ORIGIN, digest))


def parse(data: bytes, where: str) -> tuple[list[Entry], str]:
    """A manifest's entries and digest. Its bytes must be exactly what its values make: no change goes unseen.

    Raises VerificationError `bundle-damaged`.
    """
    manifest = parse_object(data, where)
    entries, digest = manifest.get("files"), manifest.get("bundle_sha256")
    whole = (
        manifest.keys() == {"files", "bundle_sha256"}
        and isinstance(entries, list)
        and all(_is_entry(entry) for entry in entries)
        and len({entry["path"] for entry in entries}) == len(entries)
        and NEEDED <= {entry["path"] for entry in entries} <= ALLOWED
        and digest == _digest(entries)
        and files.canonical_json(manifest).encode() == data
    )
    if not whole:
        raise VerificationError("bundle-damaged", "does not match its own digest", where=where)
    assert isinstance(entries, list)
    return [Entry(**entry) for entry in entries], str(digest)


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object, or VerificationError `bundle-damaged`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerificationError("bundle-damaged", f"is no JSON ({error})", where=where) from None
    if not isinstance(value, dict):
        raise VerificationError("bundle-damaged", "is no JSON object", where=where)
    return value


def _digest(value: Any) -> str:
    return files.sha256(files.canonical_json(value).encode())


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"path", "size", "sha256"}
        and isinstance(entry["path"], str)
        and isinstance(entry["sha256"], str)
        and type(entry["size"]) is int
        and 0 <= entry["size"] <= MAX_BYTES
    )


def _bytes(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise VerificationError("bundle-damaged", "is no regular file", where=str(path))
    return path.read_bytes()


def _origin(path: Path, digest: str) -> Origin | None:
    if not path.exists():
        return None
    data = _bytes(path)
    told = parse_object(data, str(path))
    told.pop("sha256", None)
    try:
        origin = Origin(**told)
    except TypeError:
        origin = None
    if origin is None or origin.data() != data:
        raise VerificationError("bundle-damaged", "does not match its own hash", where=str(path))
    if origin.bundle_sha256 != digest:
        raise VerificationError("bundle-damaged", "is of another bundle", where=str(path))
    return origin


def _refuse_pickles(folder: Path) -> None:
    candidates = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    for path in candidates:
        if path.suffix in PICKLES:
            what = "is a pickled model: loading one can run any code, so it is refused"
            raise InvalidError("bundle-format", what, where=str(path))
