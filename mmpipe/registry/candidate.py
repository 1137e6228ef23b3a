"""The model that would be published: its bundle, verified and as the commit records it, and its metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmpipe import bundle, lockfile, paths, vcs
from mmpipe.bundle import Contents
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.registry import artifact, messages
from mmpipe.registry.worktree import Place

_DONE = "nothing was tagged"


@dataclass(frozen=True)
class Candidate:
    """`path`: of the bundle within the workspace; `digest`: of its bytes; `config`: its config.json.

    `metrics`: those of the test split that a tag records.
    """

    path: str
    digest: str
    config: dict[str, Any]
    metrics: dict[str, float]

    @property
    def data_sha256(self) -> str:
        """Of the tables that the training read."""
        return str(self.config.get("data_sha256") or "")


def load(root: Path, place: Place, name: str) -> Candidate:
    """The bundle that dvc.yaml calls by this name.

    Raises NotFoundError `workspace` or `bundle-missing`, VerificationError `bundle-damaged` naming the file,
    InvalidError `pipeline-stale` where the commit records another bundle or the model was not evaluated.
    """
    path = _path(root, name)
    contents = bundle.read(root / path)
    recorded, now = _recorded(root, place, path), _dvc_hash(contents)
    if recorded != now:
        what = f"is {now[:12]}, the commit records {recorded[:12] if recorded else 'none'}"
        raise InvalidError("pipeline-stale", what, where=path, done=_DONE)
    config = bundle.parse_object(contents.files[bundle.CONFIG], f"{path}/{bundle.CONFIG}")
    test = bundle.parse_object(contents.files[bundle.METRICS], f"{path}/{bundle.METRICS}").get("test")
    if not isinstance(test, dict):
        what = "has no metrics of the test split: the model was not evaluated"
        raise InvalidError("pipeline-stale", what, where=f"{path}/{bundle.METRICS}", done=_DONE)
    return Candidate(path, contents.digest, config, messages.chosen(test))


def _path(root: Path, name: str) -> str:
    if not (root / paths.PIPELINE).is_file():
        raise NotFoundError("workspace", "there is no dvc.yaml", where=str(root.resolve()))
    path = artifact.path_of((root / paths.PIPELINE).read_text("utf-8"), name)
    if path is None:
        fix = f"add to dvc.yaml: artifacts: {{{name}: {{path: {paths.BUNDLE.as_posix()}, type: model}}}}"
        raise NotFoundError("workspace", f"has no artifact {name!r}", where=str(paths.PIPELINE), fix=fix)
    return path


def _recorded(root: Path, place: Place, path: str) -> str | None:
    """The hash that DVC's files in the commit give a folder: dvc.lock, or its own .dvc file."""
    for name in (paths.PIPELINE.with_suffix(".lock").as_posix(), f"{path}.dvc"):
        tree = _yaml(vcs.ask_git("show", f"{place.commit}:./{name}", cwd=root) or "")
        outs = [out for stage in (tree.get("stages") or {}).values() for out in stage.get("outs") or []]
        outs += [out | {"path": path} for out in tree.get("outs") or []]
        for out in outs:
            if out.get("path") == path and "md5" in out:
                return str(out["md5"])
    return None


def _dvc_hash(contents: Contents) -> str:
    """The hash that DVC gives the folder of a bundle."""
    found = {**contents.files, bundle.MANIFEST: bundle.seal(contents.files)[0]}
    if contents.origin is not None:
        found[bundle.ORIGIN] = contents.origin.data()
    return lockfile.md5_of_folder({name: lockfile.md5(data) for name, data in found.items()})


def _yaml(text: str) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        words = " ".join(str(error).split())
        raise InvalidError("pipeline-stale", f"one of DVC's files is no YAML: {words}", done=_DONE) from None
    return tree if isinstance(tree, dict) else {}
