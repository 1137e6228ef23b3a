"""The record of a reproduction: JSON that carries its own hash, in a file or as a git note on the commit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpipe import files, vcs
from mmpipe.errors import NotFoundError
from mmpipe.registry.records import Version
from mmpipe.reproduce.stage import Stage
from mmpipe.reproduce.verdict import Verdict

FORMAT = 1
NOTES = "refs/notes/mmpipe-reproduce"


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
    digest = files.sha256(files.canonical_json(told).encode())
    return files.canonical_json({**told, "sha256": digest}).encode()


def attach(path: Path, commit: str, repository: Path) -> None:
    """Note the record in the file `path` on a commit; one noted there before stays in the notes' history."""
    name = NOTES.removeprefix("refs/notes/")
    vcs.git(
        "notes", f"--ref={name}", "add", "--force", "--file", str(path.absolute()), commit, cwd=repository
    )


def push(repository: Path) -> str:
    """Push the notes to `origin`, else to the only remote; its name.

    Raises NotFoundError `remote-missing`.
    """
    names = vcs.git("remote", cwd=repository).split()
    if "origin" not in names and len(names) != 1:
        what = f"has {len(names)} git remotes, none called origin"
        raise NotFoundError("remote-missing", what, where=str(repository), fix=f"git push REMOTE {NOTES}")
    name = "origin" if "origin" in names else names[0]
    vcs.git("push", "--quiet", name, NOTES, cwd=repository)
    return name
