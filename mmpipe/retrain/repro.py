"""One stage by DVC, then its outputs against what DVC recorded of them."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mmpipe.errors import VerificationError
from mmpipe.registry import audit

LOCK = Path("dvc.lock")
_BUSY = ("is busy", "Unable to acquire lock")
_BUSY_S = 120.0


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
    _check(after)
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


def _check(outs: Mapping[str, str]) -> None:
    """Read every output whole and compare."""
    faults = [found for found in audit.outputs(Path(), outs) if found.fault is not None]
    if faults:
        raise VerificationError(
            "out-damaged", f"is wrong after its stage: {faults[0].fault}", where=faults[0].name
        )


def _recorded(repo: Any, name: str) -> dict[str, str]:
    """{output: md5} of a stage in dvc.lock, read while no other stage's DVC writes to it."""
    with repo.lock:
        text = LOCK.read_text("utf-8") if LOCK.is_file() else ""
    stages = (YAML(typ="safe").load(text) or {}).get("stages", {})
    return {out["path"]: out["md5"] for out in stages.get(name, {}).get("outs", []) if "md5" in out}
