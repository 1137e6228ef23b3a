"""What the run before left on its branch, brought into this one: landed samples and DVC's results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mmpipe import paths, vcs
from mmpipe.errors import MmpipeError, NotFoundError
from mmpipe.retrain.landing import LANDED

TRACKED = (paths.RAW.with_name("raw.dvc"), LANDED.with_name("landed.dvc"))
"""DVC's file about all raw data; or, where data/raw holds other such files, about what landed."""
_RESULTS = ("dvc.lock", paths.METRICS.as_posix(), paths.PLOTS.as_posix())


@dataclass
class Carried:
    """`manifests`: of landed samples that this run has because an earlier one had them.

    `missing`: those whose files are still to be fetched, because the raw data changed on both sides.
    """

    branch: str
    manifests: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def bring(root: Path, branch: str) -> Carried:
    """Take from a run's branch what it had and the commit here has not; both grew from one commit.

    Each of DVC's files is taken whole if nobody has changed it here since. Of params.yaml nothing is taken
    but the names of landed manifests: what was set for one run is for that run.
    """
    carried = Carried(branch)
    start = _ask(root, "merge-base", "HEAD", branch)
    if start is None or start == _ask(root, "rev-parse", branch):  # no kin, or all of it is here already
        return carried
    carried.manifests = [name for name in _manifests(root, branch) if name not in _manifests(root, "HEAD")]
    tracked = [path for path in TRACKED if _object(root, branch, path)]
    for path in tracked:
        if _object(root, "HEAD", path) == _object(root, start, path):
            _take(root, branch, path.as_posix())
        elif _object(root, "HEAD", path) != _object(root, branch, path):
            carried.missing = carried.manifests
    if _object(root, "HEAD", Path("dvc.lock")) == _object(root, start, Path("dvc.lock")):
        for name in _changed(root, start, branch):
            _take(root, branch, name)
    return carried


def fetch(root: Path, carried: Carried) -> None:
    """Copy landed folders out of DVC's cache or remote, as the branch has them.

    Raises NotFoundError `object-missing`.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        fs = DVCFileSystem(url=str(root.resolve()), rev=carried.branch)
        for name in carried.missing:
            folder = Path(name).parent
            if not (root / folder).is_dir():
                (root / folder).parent.mkdir(parents=True, exist_ok=True)
                fs.get(folder.as_posix(), str(root / folder), recursive=True)
    except (DvcException, OSError) as error:
        what = f"landed samples of {carried.branch} cannot be had: {error}"
        raise NotFoundError("step-failed", what, fix="name a commit to start from") from error


def _manifests(root: Path, commit: str) -> list[str]:
    """Those of landed samples."""
    text = _ask(root, "show", f"{commit}:./{paths.PARAMS}") or ""
    tree: dict[str, Any] = YAML(typ="safe").load(text) or {}
    names = (tree.get("data") or {}).get("manifests") or []
    return [name for name in names if Path(name).is_relative_to(LANDED)]


def _changed(root: Path, start: str, branch: str) -> list[str]:
    words = ("diff", "--name-only", "--relative", "--no-renames", "--diff-filter=d", start, branch, "--")
    return (_ask(root, *words, *_RESULTS) or "").splitlines()


def _object(root: Path, commit: str, path: Path) -> str | None:
    return _ask(root, "rev-parse", "--verify", "--quiet", f"{commit}:./{path.as_posix()}")


def _take(root: Path, branch: str, path: str) -> None:
    vcs.git("checkout", "--quiet", branch, "--", path, cwd=root)


def _ask(root: Path, *words: str) -> str | None:
    """What git printed; None where it says no."""
    try:
        return vcs.git(*words, cwd=root).rstrip("\n")
    except MmpipeError as error:
        if error.code != "command-failed":
            raise
        return None
