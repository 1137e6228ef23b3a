"""Signatures: which keys can sign, and that what was not signed by the key over these files never passes."""

import base64
import json
import zlib

import pytest
import signing

from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.registry import signature

pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A folder, the pair of keys, and the signature."""
    top = tmp_path_factory.mktemp("signed")
    (top / "model").mkdir()
    (top / "model/a.txt").write_text("one")
    private, public = signing.keys(top, "team")
    return top / "model", private, public, signature.signer(private)(top / "model")


def packed(value):
    return base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()


def unpacked(text):
    return json.loads(zlib.decompress(base64.b64decode(text)))


def test_a_signature_holds_for_its_files_and_no_others(signed, tmp_path):
    folder, _, public, text = signed
    signature.verify(folder, text, public, where="x")
    for name, words in (("a.txt", "two"), ("b.txt", "one")):
        (tmp_path / "a.txt").write_text("one")
        (tmp_path / name).write_text(words)
        with pytest.raises(
            VerificationError, match=r"signature-bad x its signature does not hold for team\.pub"
        ):
            signature.verify(tmp_path, text, public, where="x")


@pytest.mark.parametrize("part", ["payload", "sig", "hint"])
def test_a_signature_of_which_a_part_was_changed_is_bad(signed, part):
    """Of a thief's as well, who writes the team's key into it."""
    folder, _, public, text = signed
    bundle = unpacked(text)
    envelope = bundle["dsseEnvelope"]
    if part == "payload":
        told = base64.b64decode(envelope["payload"]).replace(b"a.txt", b"b.txt")
        envelope["payload"] = base64.b64encode(told).decode()
    elif part == "sig":
        thief = signing.keys(public.parent, "thief")[0]
        envelope["signatures"] = unpacked(signature.signer(thief)(folder))["dsseEnvelope"]["signatures"]
    else:
        bundle["verificationMaterial"]["publicKey"]["hint"] = "ab" * 32
    with pytest.raises(VerificationError, match="signature-bad"):
        signature.verify(folder, packed(bundle), public, where="x")


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "AAAA",
        packed({}),
        packed([]),
        packed(None),
        packed({"verificationMaterial": {}, "dsseEnvelope": {}}),
    ]
    + [
        base64.b64encode(zlib.compress(data)).decode()
        for data in (b"", b"[" * 100_000, b"\xff", b"0" * (1 << 21))
    ],
)
def test_what_is_no_signature_is_bad(signed, text):
    folder, _, public, _ = signed
    with pytest.raises(VerificationError, match="signature-bad"):
        signature.verify(folder, text, public, where="x")


def test_no_signature_at_all_is_missing(signed):
    folder, _, public, _ = signed
    for nothing in ("", None):
        with pytest.raises(VerificationError, match="signature-missing x has no signature"):
            signature.verify(folder, nothing, public, where="x")


@pytest.mark.parametrize("kind", ["missing", "folder", "rubbish", "other half", "rsa", "odd curve", "locked"])
def test_a_key_that_cannot_be_used_is_named_before_anything_is_signed(signed, tmp_path, kind):
    folder, private, public, text = signed
    pair = tmp_path / "key.pem", tmp_path / "key.pub"
    if kind == "folder":
        pair[0].mkdir()
        pair[1].mkdir()
    elif kind == "rubbish":
        pair[0].write_text("-----BEGIN")
        pair[1].write_text("-----BEGIN")
    elif kind == "other half":
        pair = public, private
    elif kind == "rsa":
        signing.openssl("genrsa", "-out", str(pair[0]), "1024")
        signing.openssl("rsa", "-in", str(pair[0]), "-pubout", "-out", str(pair[1]))
    elif kind == "odd curve":
        pair = signing.keys(tmp_path, "key", curve="secp256k1")
    elif kind == "locked":
        signing.openssl("ec", "-in", str(private), "-aes256", "-passout", "pass:x", "-out", str(pair[0]))
    with pytest.raises(NotFoundError, match=rf"key-missing {pair[0]} is no private key"):
        signature.signer(pair[0])
    with pytest.raises(NotFoundError, match=rf"key-missing {pair[1]} is no public key"):
        signature.verify(folder, text, pair[1], where="x")
