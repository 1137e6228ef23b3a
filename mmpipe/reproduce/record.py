"""The record of a reproduction: JSON that carries its own hash, and the signature of who vouches for it."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import files
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.registry import notes, signature, tagged
from mmpipe.registry.records import Version
from mmpipe.registry.signature import Sign
from mmpipe.reproduce.stage import Stage
from mmpipe.reproduce.verdict import Verdict

FORMAT = 1
NOTES = "refs/notes/mmpipe-reproduce"
SIGNED = "record.json"
"""What a record is signed as: no bundle has such a file, so neither passes for the other."""
_TEXTS = ("tag", "commit", "bundle_sha256", "verdict", "why")
_UNSIGNED_FIX = "reproduce it with --sign, or leave out --require-signature"


@dataclass(frozen=True)
class Told:
    """What a whole record says. `signed`: whether it carries a signature, checked or not."""

    tag: str
    commit: str
    bundle_sha256: str
    verdict: str
    stage: str | None
    why: str
    signed: bool


def make(
    version: Version,
    source: str,
    *,
    verdict: Verdict,
    stages: Sequence[Stage],
    environment: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> bytes:
    """Canonical JSON; `sha256` in it is of all the rest, as canonical JSON."""
    told = {
        "format": FORMAT,
        "tag": version.tag,
        "commit": version.commit,
        "source": source,
        "bundle_sha256": version.bundle_sha256,
        "verdict": verdict.word,
        "stage": verdict.stage,
        "why": verdict.why,
        "stages": [stage.as_json() for stage in stages],
        "environment": dict(environment),
        "versions": dict(versions),
    }
    return _bytes({**told, "sha256": _digest(told)})


def signed(record: bytes, sign: Sign) -> bytes:
    """The record with the signature over its bytes in it."""
    with _folder(record) as folder:
        return _bytes({**json.loads(record), "signature": sign(folder)})


def of_tag(spec: str, source: str, *, public_key: Path | None = None) -> Told:
    """The record noted on a version's commit, checked as `check` does and against the version.

    Raises NotFoundError `record-missing`, and as `tagged.Registry.resolve` and `notes.read` do.
    """
    version = tagged.read(source).resolve(spec)
    record = notes.read(source, version.commit, ref=NOTES)
    if record is None:
        fix = f"git fetch REMOTE {NOTES}:{NOTES}, or mmpipe reproduce {version.tag} --attach"
        raise NotFoundError("record-missing", "has no record of a reproduction", where=version.tag, fix=fix)
    told = check(record, where=f"{version.tag} {NOTES}", public_key=public_key)
    check_version(told, version)
    return told


def in_file(path: Path, *, public_key: Path | None = None) -> Told:
    """The record in a file, checked as `check` does. Raises NotFoundError `record-missing`."""
    if not path.is_file():
        raise NotFoundError("record-missing", "is no file", where=str(path))
    return check(path.read_bytes(), where=str(path), public_key=public_key)


def check(record: bytes, *, where: str, public_key: Path | None = None) -> Told:
    """What a record says, if every byte of it is as it was made; with a key, if that one signed it.

    Raises VerificationError `record-damaged`, and with a key as `signature.verify` does.
    """
    told = _parsed(record, where)
    text = told.pop("signature", None)
    if public_key is not None:
        with _folder(_bytes(told)) as folder:
            try:
                signature.verify(folder, text, public_key, where=where)
            except VerificationError as error:
                fix = _UNSIGNED_FIX if error.code == "signature-missing" else None
                raise VerificationError(error.code, error.what, where=where, fix=fix) from error
    said = {name: told[name] for name in (*_TEXTS, "stage")}
    return Told(**said, signed=bool(text))


def check_version(told: Told, version: Version) -> None:
    """Raise VerificationError `record-damaged` where a record is not of this version as its tag is now."""
    for name in ("tag", "commit", "bundle_sha256"):
        says, is_now = getattr(told, name), getattr(version, name)
        if says != is_now:
            what = f"its record says {name} {says[:64]}, the version has {is_now[:64]}"
            raise VerificationError("record-damaged", what, where=version.tag)


def _parsed(record: bytes, where: str) -> dict[str, Any]:
    try:
        told = json.loads(record)
        whole = isinstance(told, dict) and _whole(told) and _bytes(told) == record
    except (ValueError, RecursionError):  # no JSON, or values that no record has
        whole = False
    if not whole:
        raise VerificationError("record-damaged", "does not match its own hash", where=where)
    return dict(told)


def _whole(told: Mapping[str, Any]) -> bool:
    rest = {key: value for key, value in told.items() if key not in ("sha256", "signature")}
    return (
        told.get("format") == FORMAT
        and all(isinstance(told.get(name), str) for name in _TEXTS)
        and isinstance(told.get("stage"), str | None)
        and isinstance(told.get("signature", ""), str)
        and told.get("sha256") == _digest(rest)
    )


def _digest(told: Mapping[str, Any]) -> str:
    return files.sha256(files.canonical_json(told).encode())


def _bytes(told: Mapping[str, Any]) -> bytes:
    return files.canonical_json(told).encode()


@contextmanager
def _folder(record: bytes) -> Iterator[Path]:
    """A folder that holds a record without its signature and nothing else: what is signed."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, SIGNED).write_bytes(record)
        yield Path(scratch)
