"""What DVC holds of a workspace: whether its results are those of its pipeline, and lie on its remote."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmpipe import vcs
from mmpipe.errors import InvalidError, MmpipeError
from mmpipe.registry import stored

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


def push(root: Path, remote: str, *, path: str, digest: str) -> None:
    """`dvc push`, then look there; what the remote lost is sent once more.

    `path`, `digest`: of the bundle, which is read back whole. Raises MmpipeError `data-unpushed`, and as
    `check_pushed` does.
    """
    try:
        vcs.dvc("push", "--quiet", cwd=root)
    except MmpipeError as error:
        what = f"dvc push to {remote} failed: {error.what}"
        raise MmpipeError("data-unpushed", what, done=_DONE, fix="read DVC's words, then publish") from None
    if lost := stored.lacking(root):
        stored.send(root, lost)
        fix = "run `dvc push` where these were made, or make them again: dvc repro --force"
        _refuse(stored.lacking(root), remote, " and neither has the cache here", fix)
    stored.check_bundle(root, path, digest)


def check_pushed(root: Path, remote: str, *, path: str, digest: str) -> None:
    """Raise InvalidError `data-unpushed` naming what the remote does not have.

    And VerificationError `object-damaged` where it has the bundle with other bytes.
    """
    _refuse(stored.lacking(root), remote, "", "run `dvc push`, or publish without --no-push")
    stored.check_bundle(root, path, digest)


def check_reachable(root: Path, *, path: str, digest: str) -> None:
    """That the remote answers, and if it has everything already, that the bundle there is this one.

    Raises as `check_pushed` does, but not for what is missing.
    """
    if not stored.lacking(root):
        stored.check_bundle(root, path, digest)


def _refuse(lost: Sequence[stored.Object], remote: str, rest: str, fix: str) -> None:
    if lost:
        named = ", ".join(f"{one.path} ({one.place})" for one in lost[:_SHOWN])
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        what = f"does not have {named}{more}{rest}"
        raise InvalidError("data-unpushed", what, where=remote, done=_DONE, fix=fix)


def _status(root: Path) -> dict[str, Any]:
    """`dvc status --json`: {stage: what changed}."""
    found: dict[str, Any] = json.loads(vcs.dvc("status", "--json", cwd=root))
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
