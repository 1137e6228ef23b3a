"""A clone of the repository for one sweep: its commit is pinned, its experiments meet nobody else's."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import paths, vcs
from mmpipe.errors import UsageError
from mmpipe.registry.worktree import Place
from mmpipe.retrain import leftovers, overrides
from mmpipe.retrain.apart import environment
from mmpipe.retrain.worktree import furnish

_IDENTITY = ("user.name", "user.email")


@dataclass(frozen=True)
class Clone:
    """`folder` of the clone, `root` of the workspace in it; `place`: the person's own work tree."""

    folder: Path
    root: Path
    place: Place
    commit: str

    @property
    def environment(self) -> dict[str, str]:
        """For every program that the sweep starts."""
        return environment(self.folder)

    def reset(self, values: dict[str, Any]) -> None:
        """The commit's own files and DVC's results of them, with these keys of params.yaml set.

        Raises InvalidError `params` for values that make no sense together.
        """
        vcs.git("reset", "--quiet", "--hard", self.commit, cwd=self.folder)
        for old in (self.root / paths.PRIVATE / "live").iterdir():
            shutil.rmtree(old)
        overrides.apply(self.root, values)
        vcs.dvc("checkout", "--quiet", "--force", "--allow-missing", cwd=self.root)

    def hand_over(self, experiment: str) -> None:
        """Bring an experiment of this name into the person's repository."""
        ref = find(self.folder, experiment)
        assert ref is not None, experiment
        vcs.git("fetch", "--quiet", "--no-tags", str(self.folder), f"+{ref}:{ref}", cwd=self.place.top)

    def read(self, experiment: str, path: Path) -> str | None:
        """A file of the workspace as the experiment has it; None where it has none such."""
        ref = find(self.folder, experiment)
        return vcs.ask_git("show", f"{ref}:./{path.as_posix()}", cwd=self.root) if ref else None


@contextmanager
def cloned(workspace: Path, place: Place, commit: str, own: Path) -> Iterator[Clone]:
    """The clone, below `own`, while the context lasts; what a dead sweep left there is removed first.

    Shares DVC's cache and the feature store with the `workspace`; states of trainings stay in `own`.
    """
    folder = own / "clone"
    leftovers.end(folder)
    shutil.rmtree(folder, ignore_errors=True)
    clone = Clone(folder, folder / place.folder, place, commit)
    try:
        vcs.git("clone", "--quiet", "--no-checkout", "--no-tags", "--", str(place.top), str(folder), cwd=own)
        for key in _IDENTITY:
            if value := vcs.ask_git("config", key, cwd=workspace):
                vcs.git("config", key, value, cwd=folder)
        vcs.git("config", "core.hooksPath", "/dev/null", cwd=folder)
        vcs.git("checkout", "--quiet", "--detach", commit, cwd=folder)
        furnish(workspace, clone.root, own)
        _show(workspace, clone.root)
        yield clone
    finally:
        leftovers.end(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _show(workspace: Path, root: Path) -> None:
    """TensorBoard's events of each trial go where those of other trainings are."""
    shown = workspace.resolve() / paths.TENSORBOARD
    shown.mkdir(parents=True, exist_ok=True)
    (root / paths.TENSORBOARD).parent.mkdir(parents=True, exist_ok=True)
    (root / paths.TENSORBOARD).symlink_to(shown)


def find(repository: Path, experiment: str) -> str | None:
    """The full ref of the experiment with this name; None if there is none."""
    names = vcs.git("for-each-ref", "--format=%(refname)", "refs/exps", cwd=repository).split()
    return next((name for name in names if name.rpartition("/")[2] == experiment), None)


def check_names(place: Place, study: str) -> None:
    """Raise UsageError `sweep-differs` where experiments are named as those of a new study would be."""
    names = vcs.git("for-each-ref", "--format=%(refname)", "refs/exps", cwd=place.top).split()
    taken = [name.rpartition("/")[2] for name in names]
    if mine := [name for name in taken if re.fullmatch(rf"{re.escape(study)}-\d+", name)]:
        what = f"there are experiments of its name already, {mine[0]!r} for one, and no study that made them"
        fix = "give another --name, or `dvc exp remove` them"
        raise UsageError("sweep-differs", what, where=study, fix=fix)


def dirty(place: Place) -> list[str]:
    """Tracked files of the work tree that are not as the commit has them."""
    words = vcs.git("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", cwd=place.top)
    return [entry[3:] for entry in words.split("\0") if entry]
