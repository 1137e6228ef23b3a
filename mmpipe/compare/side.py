"""One of the two that are compared: all that a published version, a workspace or a bundle says of itself."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpipe import bundle, files, lockfile, paths, tables, trees, yaml_text
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.registry import pull, remote, tagged

BUNDLE = paths.BUNDLE.as_posix()
MADE_FROM = (paths.PARAMS, paths.SAMPLES, paths.SPLITS, paths.PREDICTIONS)
METRICS = tuple(paths.METRICS / f"{name}.json" for name in ("evaluate", "ingest", "train"))


@dataclass(frozen=True)
class Side:
    """`files`: {path in the workspace: bytes}. `bundle`: its files, {} where `missing` says why.

    `missing`: {path, or a folder of it: why it is not to be had}. `commit` and `digest`, of the bundle, are
    "" where there is none.
    """

    name: str
    commit: str
    digest: str
    files: Mapping[str, bytes]
    bundle: Mapping[str, bytes]
    missing: Mapping[str, str]

    def data(self, path: Path) -> bytes:
        """A file's bytes. Raises NotFoundError `object-missing` with the reason."""
        name = path.as_posix()
        if name not in self.files:
            raise self._lacks(name)
        return self.files[name]

    def table(self, path: Path, schema: pa.Schema | None = None) -> pa.Table:
        """A verified table. Raises as `data` and `tables.parse`."""
        return tables.parse(self.data(path), f"{self.name} {path}", schema)

    def json(self, path: Path) -> dict[str, Any]:
        """An object in JSON. Raises as `data`, and VerificationError `bundle-damaged`."""
        return bundle.parse_object(self.data(path), f"{self.name} {path}")

    def params(self) -> dict[str, Any]:
        """{dotted key: value} of params.yaml. Raises as `data`, and InvalidError `params`."""
        return trees.flat(yaml_text.parse(self.data(paths.PARAMS), Path(self.name, paths.PARAMS)).plain())

    def config(self) -> dict[str, Any]:
        """The bundle's config.json. Raises NotFoundError `object-missing`."""
        if not self.bundle:
            raise self._lacks(BUNDLE)
        return bundle.parse_object(self.bundle[bundle.CONFIG], f"{self.name} {bundle.CONFIG}")

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """{stage: its code fingerprint}. Raises as `json`."""
        names = sorted(name for name in self.files if Path(name).parent == paths.CODE)
        if not names:
            raise self._lacks(paths.CODE.as_posix())
        return {Path(name).stem: self.json(Path(name)) for name in names}

    def _lacks(self, name: str) -> NotFoundError:
        why = next((why for start, why in self.missing.items() if name.startswith(start)), "is not there")
        return NotFoundError("object-missing", why, where=f"{self.name} {name}")


def read(what: str, source: str = ".") -> Side:
    """A version's tag in the repository `source`, or the folder of a workspace or of a bundle.

    Raises NotFoundError for what is neither, and as `tagged.read`, `remote.opened` and `bundle.read` do.
    """
    folder = Path(what)
    if not folder.exists() and any(mark in what for mark in "@#"):
        return _version(what, source)
    if (folder / bundle.MANIFEST).is_file():
        return _bundle(folder)
    if (folder / paths.PIPELINE).is_file():
        return _workspace(what)
    fix = "give a version's tag, or the folder of a workspace or a bundle"
    raise NotFoundError("workspace", "is neither a tag nor a workspace nor a bundle", where=what, fix=fix)


def fetched(fs: remote.Fs, name: str) -> bytes | None:
    """A file's bytes, which are those that the commit records; None where they are not to be had.

    Raises VerificationError `object-damaged`.
    """
    try:
        data: bytes = fs.read_bytes(name)
        recorded = fs.info(name).get("md5")
    except FileNotFoundError:
        return None
    if recorded is not None and recorded != lockfile.md5(data):
        what = f"has md5 {lockfile.md5(data)[:12]}, the commit records {recorded[:12]}"
        raise VerificationError("object-damaged", what, where=name)
    return data


def _version(spec: str, source: str) -> Side:
    version = tagged.read(source).resolve(spec)
    missing: dict[str, str] = {}
    with remote.opened(source, version.commit, version.name) as fs:
        why = f"is not in {remote.storage(fs) or 'its repository, which names no DVC remote'}"
        found = _gather(lambda name: fetched(fs, name), _codes(fs), why, missing)
    try:
        contents = pull.fetch(version, source).files
    except NotFoundError as error:
        contents, missing[BUNDLE] = {}, error.what
    return Side(version.tag, version.commit, version.bundle_sha256, found, contents, missing)


def _workspace(what: str) -> Side:
    root, missing = Path(what), dict[str, str]()
    codes = [path.relative_to(root).as_posix() for path in sorted((root / paths.CODE).glob("*.json"))]
    found = _gather(lambda name: _lying(root / name), codes, "is not there: run `dvc repro`", missing)
    digest, contents = "", dict[str, bytes]()
    if (root / paths.BUNDLE).is_dir():
        whole = bundle.read(root / paths.BUNDLE)
        digest, contents = whole.digest, whole.files
    else:
        missing[BUNDLE] = "is not there: run `dvc repro`"
    return Side("workspace" if what == "." else what, "", digest, found, contents, missing)


def _bundle(folder: Path) -> Side:
    """Metrics are in it; no table is."""
    whole = bundle.read(folder)
    metrics = json.loads(whole.files[bundle.METRICS])
    parts = {"evaluate": metrics.get("test"), "train": metrics.get("validation")}
    found = {
        (paths.METRICS / f"{name}.json").as_posix(): files.canonical_json(part).encode()
        for name, part in parts.items()
        if part is not None
    }
    origin = whole.origin
    name, commit = (origin.tag, origin.commit) if origin else (str(folder), "")
    return Side(name, commit, whole.digest, found, whole.files, {"": "is not in a bundle"})


def _gather(
    get: Callable[[str], bytes | None], codes: list[str], why: str, missing: dict[str, str]
) -> dict[str, bytes]:
    """The bytes of each file that is to be had; the others are named in `missing`."""
    found = {}
    for name in [*(path.as_posix() for path in (*MADE_FROM, *METRICS)), *codes]:
        data = get(name)
        if data is None:
            missing[name] = why
        else:
            found[name] = data
    if not any(name in found for name in codes):
        missing[paths.CODE.as_posix()] = why
    return found


def _codes(fs: remote.Fs) -> list[str]:
    """The fingerprints that the commit has, here or elsewhere."""
    folder = paths.CODE.as_posix()
    return sorted(name for name in fs.find(folder) if name.endswith(".json")) if fs.exists(folder) else []


def _lying(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
