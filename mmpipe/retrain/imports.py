"""What `dvc import` and `dvc import-url` track, held against its source by commit or hash only."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mmpipe import vcs
from mmpipe.errors import MmpipeError, TemporaryError
from mmpipe.registry import remote
from mmpipe.retrain.snapshot import import_files
from mmpipe.retrain.watching import Import

_COMMIT = re.compile(r"[0-9a-f]{40}")


def changed(*, known: Collection[str]) -> list[dict[str, Any]]:
    """The imports below data/raw of the workspace that is the current folder whose source has moved on.

    In a process of its own. `known`: keys of states whose files need not be counted: they are 0 there.
    Imports from databases are left out. Raises TemporaryError `import-unreachable`.
    """
    found = []
    for path in import_files(Path()):
        name, recorded = path.as_posix(), _dependency(path)
        if "db" in recorded:
            continue
        try:
            one = _of_repository(name, recorded, known) if "repo" in recorded else _of_url(path, known)
        except _unreachable() as error:
            told = error.what if isinstance(error, MmpipeError) else str(error)
            raise TemporaryError("import-unreachable", remote.public(told), where=name) from error
        if one is not None:
            found.append(asdict(one))
    return found


def _unreachable() -> tuple[type[Exception], ...]:
    """What git, DVC and its file systems say of a source that does not answer."""
    from dvc.exceptions import DvcException

    return DvcException, OSError, MmpipeError


def _dependency(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(path.read_text("utf-8"))["deps"][0]
    return found


def _of_repository(name: str, recorded: Mapping[str, Any], known: Collection[str]) -> Import | None:
    """By one question to git; only where the commit is another are the files' names and hashes compared."""
    repo = recorded["repo"]
    commit = _commit(repo["url"], repo.get("rev"))
    one = Import(name, commit, 0)
    if commit == repo["rev_lock"] or one.key in known:
        return None if commit == repo["rev_lock"] else one
    if repo.keys() & {"config", "remote"}:  # its data lie elsewhere than the repository says
        return Import(name, commit, 1)
    before, after = (_hashes(repo["url"], at, recorded["path"]) for at in (repo["rev_lock"], commit))
    files = sum(before.get(path) != after.get(path) for path in before.keys() | after.keys())
    return Import(name, commit, files) if files else None


def _commit(url: str, rev: str | None) -> str:
    """The commit that a branch, a tag or HEAD is at now. Raises MmpipeError `command-failed`."""
    if rev and _COMMIT.fullmatch(rev):
        return rev
    lines = vcs.git("ls-remote", "--", url, rev or "HEAD", f"{rev or 'HEAD'}^{{}}", cwd=Path()).splitlines()
    if not lines:
        raise MmpipeError("command-failed", f"knows no {rev!r}", where=remote.public(url))
    return lines[-1].split()[0]  # of an annotated tag, its commit comes last


def _hashes(url: str, commit: str, path: str) -> dict[str, str]:
    """{path of a file: its hash}, DVC's or git's; no file's content is read."""
    with remote.opened(url, commit) as fs:
        if fs.isfile(path):
            return {path: _hash(fs.info(path))}
        return {name: _hash(info) for name, info in fs.find(path, detail=True).items()}


def _hash(info: Mapping[str, Any]) -> str:
    return str(info.get("md5") or info["fs_info"]["sha"])


def _of_url(path: Path, known: Collection[str]) -> Import | None:
    """By etag, checksum or, of local files that changed since the last look, their content."""
    from dvc.repo import Repo

    with Repo() as repo:
        [stage] = repo.stage.load_file(str(path))
        source = stage.deps[0]
        now = source.get_hash()
        if now == source.hash_info:
            return None
        one = Import(path.as_posix(), str(now), 0)
        if one.key in known:
            return one
        counts = [meta.nfiles or 1 for meta in (source.meta, source.get_meta())]
    return Import(one.name, one.state, max(1, abs(counts[1] - counts[0])))
