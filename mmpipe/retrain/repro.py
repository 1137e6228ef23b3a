"""One stage by DVC, then its outputs against what DVC recorded of them."""

import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mmpipe.errors import VerificationError

LOCK = Path("dvc.lock")
_BLOCK = 1 << 20
_BUSY = ("is busy", "Unable to acquire lock")
_BUSY_S = 120.0
Outs = dict[str, str]
"""Path → md5, as DVC records it."""


def repro(name: str, *, force: bool = False) -> dict[str, Any]:
    """`dvc --wait-for-lock repro --single-item` of a stage, in a process of its own.

    → {changed: the outputs that are others now, exit_status: of the stage, reason: DVC's words if it failed}.
    Raises VerificationError `out-damaged` where DVC was content and an output is not there, or not what was
    recorded.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo:
        before = _recorded(repo, name)
        try:
            _run(repo, name, force=force)
        except DvcException as error:
            told = _told(error)
            found = re.search(r", exited with (-?\d+)$", told)
            return {"changed": [], "exit_status": int(found[1]) if found else 1, "reason": told}
        after = _recorded(repo, name)
    check(after)
    changed = sorted(path for path in before | after if before.get(path) != after.get(path))
    return {"changed": changed, "exit_status": 0, "reason": ""}


def _run(repo: Any, name: str, *, force: bool) -> None:
    """DVC waits for its repository lock by itself, not for paths that another process reads or writes."""
    from dvc.exceptions import DvcException

    until = time.monotonic() + _BUSY_S
    while True:
        try:
            repo.reproduce(name, single_item=True, force=force)
            return
        except DvcException as error:
            busy = any(words in _told(error) for words in _BUSY)
            if not busy or time.monotonic() > until:
                raise
        time.sleep(0.5)


def _told(error: BaseException) -> str:
    """DVC's error and its causes, as its command line tells them."""
    cause = f": {_told(error.__cause__)}" if error.__cause__ else ""
    return f"{error}{cause}"


def check(outs: Outs) -> None:
    """Read every output whole and compare."""
    for path, recorded in outs.items():
        try:
            found = md5(Path(path))
        except OSError as error:
            what = f"cannot be read after its stage ({error.strerror})"
            raise VerificationError("out-damaged", what, where=path) from None
        if found != recorded:
            what = f"has md5 {found[:12]} after its stage, dvc.lock says {recorded[:12]}"
            raise VerificationError("out-damaged", what, where=path)


def md5(path: Path) -> str:
    """As DVC hashes a file; of a folder, the hash of the sorted list of its files with the ending `.dir`."""
    if not path.is_dir():
        return _of_file(path)
    names = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
    return _of_list({"md5": _of_file(path / name), "relpath": name} for name in names)


def _recorded(repo: Any, name: str) -> Outs:
    """What dvc.lock says of a stage's outputs, read while no other stage's DVC writes to it."""
    with repo.lock:
        text = LOCK.read_text("utf-8") if LOCK.is_file() else ""
    stages = (YAML(typ="safe").load(text) or {}).get("stages", {})
    return {out["path"]: out["md5"] for out in stages.get(name, {}).get("outs", []) if "md5" in out}


def _of_file(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _of_list(entries: Iterable[dict[str, str]]) -> str:
    text = json.dumps(list(entries), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
