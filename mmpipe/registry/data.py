"""What DVC holds of a workspace: whether its results are those of its pipeline, and lie on its remote."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmpipe import vcs
from mmpipe.errors import InvalidError, MmpipeError

_SHOWN = 5
_ALWAYS = {"code": ["always changed"]}
"""The stage that writes fingerprints anew at every run; whether they changed is for the caller to say."""
_DONE = "nothing was tagged"


def check_reproduced(root: Path, *, stale: Iterable[str] = ()) -> None:
    """Raise InvalidError `pipeline-stale`, naming the stages that `dvc repro` would run.

    `stale`: stages whose code is no more that of their fingerprint.
    """
    reasons = dict.fromkeys(stale, "its code changed")
    for stage, changes in _status(root).items():
        if changes != _ALWAYS.get(stage):
            reasons.setdefault(stage, _told(changes))
    if reasons:
        shown = ", ".join(f"{stage} ({why})" for stage, why in list(reasons.items())[:_SHOWN])
        more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise InvalidError("pipeline-stale", f"not reproduced: {shown}{more}", where="dvc.yaml", done=_DONE)


def remote(root: Path) -> str | None:
    """The name of DVC's default remote; None without one."""
    return vcs.dvc("config", "core.remote", cwd=root).strip() or None


def push(root: Path, remote: str) -> None:
    """`dvc push`, then look there. Raises MmpipeError `data-unpushed`."""
    try:
        vcs.dvc("push", "--quiet", cwd=root)
    except MmpipeError as error:
        what = f"dvc push to {remote} failed: {error.what}"
        raise MmpipeError("data-unpushed", what, done=_DONE, fix="read DVC's words, then publish") from None
    check_pushed(root, remote)


def check_pushed(root: Path, remote: str) -> None:
    """Raise InvalidError `data-unpushed`, naming what the remote does not have."""
    lacking = sorted(name for name, state in _status(root, "--cloud").items() if state != "deleted")
    if lacking:  # what DVC calls deleted is there, and only this machine's cache lacks it
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        what = f"does not have {', '.join(lacking[:_SHOWN])}{more}"
        raise InvalidError("data-unpushed", what, where=remote, done=_DONE)


def _status(root: Path, *options: str) -> dict[str, Any]:
    """`dvc status --json`: {stage or path: what changed}."""
    found: dict[str, Any] = json.loads(vcs.dvc("status", "--json", *options, cwd=root))
    return found


def _told(changes: Any) -> str:
    """DVC's list of changes in a few words."""
    words = []
    for change in changes if isinstance(changes, list) else [changes]:
        if isinstance(change, dict):
            words += [f"{kind}: {', '.join(map(str, what))}" for kind, what in change.items()]
        else:
            words.append(str(change))
    return "; ".join(words)
