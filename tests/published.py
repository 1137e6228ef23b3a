"""A repository that publishes models: real git, real DVC, small bundles of made-up weights."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from mmpipe import bundle
from mmpipe.registry import messages

PIPELINE = "artifacts:\n  fusion:\n    path: models/fusion\n    type: model\n"


def run(folder: Path, *command: str) -> str:
    """A command that must succeed; what it printed."""
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    """This environment's DVC."""
    return run(folder, sys.executable, "-m", "dvc", *arguments)


def contents(number: int) -> dict[str, bytes]:
    """Files of a bundle, others for each number."""
    weights = b"".join(hashlib.sha256(f"{number} {block}".encode()).digest() for block in range(100))
    named = {
        "config.json": f'{{"n": {number}}}\n',
        "metrics.json": f'{{"a": {number}}}\n',
        "README.md": f"# {number}\n",
    }
    return {"model.safetensors": weights, **{name: text.encode() for name, text in named.items()}}


def objects(store: Path, number: int) -> dict[str, Path]:
    """Those of one bundle by what they hold: its files, its manifest, and DVC's list of them (`.dir`)."""
    files = contents(number)
    files |= {bundle.MANIFEST: bundle.seal(files)[0]}
    names = {hashlib.md5(data, usedforsecurity=False).hexdigest(): name for name, data in files.items()}
    found = {}
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        md5 = path.parent.name + path.name
        if md5 in names:
            found[names[md5]] = path
        elif md5.endswith(".dir") and names.keys() == {e["md5"] for e in json.loads(path.read_bytes())}:
            found[".dir"] = path
    assert found.keys() == files.keys() | {".dir"}, found
    return found


def repository(root: Path, *, storage: str | None = None, within: Path | None = None) -> Path:
    """An empty one with git and DVC; `storage`: the URL of its default DVC remote; `within`: git is there."""
    root.mkdir(parents=True)
    if within is None:
        run(root, "git", "init", "-q", "-b", "main")
        run(root, "git", "config", "user.name", "Ada")
        run(root, "git", "config", "user.email", "ada@example.org")
    dvc(root, "init", "-q", *(["--subdir"] if within else []))
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    if storage is not None:
        dvc(root, "remote", "add", "-q", "-d", "store", storage)
    (root / "dvc.yaml").write_text(PIPELINE)
    return root


def publish(
    root: Path,
    version: str,
    number: int,
    *,
    push: bool = True,
    signature: str | None = None,
    prefix: str = "",
    files: dict[str, bytes] | None = None,
) -> str:
    """Commit a bundle, push it, tag it; its digest."""
    digest = bundle.write(root / "models/fusion", files or contents(number))
    dvc(root, "add", "-q", "models/fusion")
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-q", "--allow-empty", "-m", f"model {number}")
    if push:
        dvc(root, "push", "-q")
    fields = {"Bundle-SHA256": digest, "Data-SHA256": "d" * 64, "Metrics": {"accuracy": number / 10}}
    fields |= {} if signature is None else {"Signature": signature}
    run(
        root,
        "git",
        "tag",
        "-a",
        f"{prefix}fusion@{version}",
        "-m",
        messages.write(f"fusion {version}", fields),
    )
    return digest


def assign(root: Path, stage: str, n: int, version: str) -> None:
    """Put a version into a stage."""
    message = messages.write(f"{version} to {stage}", {"Version": version, "Action": "promote"})
    run(root, "git", "tag", "-a", f"fusion#{stage}#{n}", f"fusion@{version}^{{}}", "-m", message)
