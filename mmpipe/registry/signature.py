"""Signatures of bundles by a key pair (OpenSSF model-signing), carried as text in the version's tag."""

import base64
import tempfile
import zlib
from pathlib import Path
from typing import Any

from mmpipe.errors import NotFoundError, VerificationError

MAX_BYTES = 1_000_000


def sign(folder: Path, private_key: Path) -> str:
    """A detached signature over every file of a bundle, as base64 in one line.

    `private_key`: a PEM file of an elliptic curve. Raises NotFoundError: `library-missing` or
    `signature-missing`.
    """
    signing, _ = _library()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "signature.json")
        try:
            signing.Config().use_elliptic_key_signer(private_key=private_key).sign(folder, path)
        except (OSError, ValueError) as error:
            what = f"is no private key ({error})"
            raise NotFoundError("signature-missing", what, where=str(private_key)) from error
        return base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()


def verify(folder: Path, signature: str | None, public_key: Path, *, where: str) -> None:
    """Raise VerificationError unless `signature` is by the key and over exactly these files.

    `signature-missing` where there is none, `signature-bad` where it does not hold.
    """
    if not signature:
        raise VerificationError("signature-missing", "has no signature", where=where)
    _, verifying = _library()
    if not public_key.is_file():
        raise NotFoundError("signature-missing", "is no public key", where=str(public_key))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "signature.json")
        try:
            path.write_bytes(_unpacked(signature))
            verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, path)
        except (ValueError, KeyError, TypeError, OSError, zlib.error) as error:
            what = f"its signature does not hold for {public_key.name} ({str(error)[:200]})"
            raise VerificationError("signature-bad", what, where=where) from error


def _unpacked(signature: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(signature, validate=True), MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError("it is too large")
    return data


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        fix = "pip install 'mmpipe[sign]'"
        raise NotFoundError("library-missing", f"signatures need model-signing ({error})", fix=fix) from error
    return signing, verifying
