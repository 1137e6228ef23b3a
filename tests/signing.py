"""Pairs of keys as people make them, by openssl."""

import subprocess
from pathlib import Path


def keys(folder: Path, name: str, *, curve: str = "prime256v1") -> tuple[Path, Path]:
    """A private and a public key of an elliptic curve, as PEM files."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", str(private))
    openssl("ec", "-in", str(private), "-pubout", "-out", str(public))
    return private, public


def openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
