"""Signatures by a key pair (OpenSSF model-signing) over the files of a folder, carried as a line of text."""

import base64
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmpipe.errors import NotFoundError, VerificationError

MAX_BYTES = 1_000_000
Sign = Callable[[Path], str]
"""A folder → a detached signature over every file of it, as base64 in one line."""
_BAD_KEY = (OSError, ValueError, TypeError, AttributeError)
"""No PEM, a locked one, a kind of key that the library takes for an elliptic curve's."""


def signer(private_key: Path) -> Sign:
    """What signs with a key, which is read now: before anything is made that would then stay unsigned.

    `private_key`: a PEM file of an elliptic curve, without a pass phrase. Raises NotFoundError:
    `library-missing` or `key-missing`.
    """
    signing, _, _ = _library()
    try:
        configured = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except _BAD_KEY as error:
        what = f"is no private key of an elliptic curve that can be read ({error})"
        raise NotFoundError("key-missing", what, where=str(private_key)) from error

    def sign(folder: Path) -> str:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "signature.json")
            configured.sign(folder, path)
            return base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()

    return sign


def verify(folder: Path, signature: str | None, public_key: Path, *, where: str) -> None:
    """Raise VerificationError unless `signature` is by the key and over exactly these files.

    `signature-missing` where there is none, `signature-bad` where it does not hold; NotFoundError
    `key-missing` for what is no public key.
    """
    if not signature:
        raise VerificationError("signature-missing", "has no signature", where=where)
    _, verifying, invalid = _library()
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except _BAD_KEY as error:
        what = f"is no public key of an elliptic curve that can be read ({error})"
        raise NotFoundError("key-missing", what, where=str(public_key)) from error
    # whatever stands where a signature should be is a stranger's, and the library takes it to be well formed
    malformed = (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, zlib.error)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "signature.json")
        try:
            path.write_bytes(_unpacked(signature))
            verifier.verify(folder, path)
        except (*malformed, invalid) as error:
            words = " ".join(str(error).split())[:200] or "it was not made by this key over these files"
            what = f"its signature does not hold for {public_key.name} ({words})"
            raise VerificationError("signature-bad", what, where=where) from error


def _unpacked(signature: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(signature, validate=True), MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError("it is too large")
    return data


def _library() -> tuple[Any, Any, type[Exception]]:
    """How to sign, how to verify, and what a signature that does not hold raises."""
    try:
        from cryptography.exceptions import InvalidSignature
        from model_signing import signing, verifying
    except ImportError as error:
        fix = "pip install 'mmpipe[sign]'"
        raise NotFoundError("library-missing", f"signatures need model-signing ({error})", fix=fix) from error
    return signing, verifying, InvalidSignature
