"""The run's data, fixed before any stage starts: what was tracked, what landed before, what is new."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpipe import paths, vcs
from mmpipe.errors import InvalidError, MmpipeError
from mmpipe.retrain import carry, overrides
from mmpipe.retrain.carry import TRACKED
from mmpipe.retrain.landing import LANDED, Landed, land

KEEP = paths.RAW / ".gitkeep"


def take(
    *, landing: str | None, update_imports: bool, values: Mapping[str, Any], before: str | None
) -> dict[str, Any]:
    """Bring params.yaml and data/raw into the state that stages will see; `before`: the last run's branch.

    In a process of its own, in the folder of `dvc.yaml`. → {landed: …, carried: manifests of earlier runs,
    updated: imports that changed}. Raises as `overrides.apply`, `landing.land` and `carry.fetch` do.
    """
    root = Path()
    overrides.apply(root, values)
    carried = carry.bring(root, before) if before else carry.Carried("")
    _check_out(root)
    if carried.missing:
        carry.fetch(root, carried)
    updated = _update(root) if update_imports else []
    params = overrides.apply(root, {})
    landed = Landed()
    if landing is not None:
        columns = params.data.columns.model_dump()
        landed = land(Path(landing), columns, max_bytes=params.ingest.max_file_bytes)
    new = [*carried.manifests, *([landed.manifest] if landed.manifest else [])]
    if new:
        names = list(dict.fromkeys([*params.data.manifests, *new]))
        overrides.apply(root, {"data.manifests": names})
    if landed.manifest or carried.missing:
        _track(root)
    return {"landed": landed.as_json(), "carried": carried.manifests, "updated": updated}


def import_files(root: Path) -> list[Path]:
    """DVC's files of imports below data/raw, relative to `root`."""
    return [path for path in _files(root) if re.search(rb"^deps:", (root / path).read_bytes(), re.MULTILINE)]


def _check_out(root: Path) -> None:
    """The raw data that DVC tracks, from its cache or else its remote."""
    names = [path.as_posix() for path in _files(root)]
    if not names:
        return
    if TRACKED[0].as_posix() in names:
        _drop_keep(root)
    try:
        vcs.dvc("checkout", "--force", *names, cwd=root)
    except MmpipeError:
        vcs.dvc("pull", "--force", *names, cwd=root)


def _update(root: Path) -> list[str]:
    """`dvc update` of each import; the names of those whose data changed."""
    changed = []
    for path in import_files(root):
        before = path.read_bytes()
        vcs.dvc("update", path.as_posix(), cwd=root)
        changed += [path.as_posix()] if path.read_bytes() != before else []
    return changed


def _track(root: Path) -> None:
    """Tell DVC: of all raw data together, or of what landed where other parts are tracked by themselves."""
    whole, own = TRACKED
    others = [path for path in _files(root) if path not in TRACKED]
    if whole.is_file() and b"deps:" in whole.read_bytes():
        what = "is an import as a whole: nothing can land in it"
        fix = "import into a folder below data/raw, or let samples land at the source"
        raise InvalidError("landing-missing", what, where=whole.as_posix(), fix=fix)
    target = LANDED if others or own.is_file() else paths.RAW
    if target == paths.RAW:
        _drop_keep(root)
    vcs.dvc("add", target.as_posix(), cwd=root)


def _drop_keep(root: Path) -> None:
    """What keeps the empty folder in git stands in DVC's way when it has the folder."""
    vcs.git("rm", "--quiet", "--force", "--ignore-unmatch", "--", KEEP.as_posix(), cwd=root)


def _files(root: Path) -> list[Path]:
    """DVC's files about raw data."""
    found = [root / TRACKED[0], *(root / paths.RAW).rglob("*.dvc")]
    return sorted(path.relative_to(root) for path in found if path.is_file())
