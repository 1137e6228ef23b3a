"""The run's own git worktree at a pinned commit: nobody's edits come in, the checkout is not touched."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mmpipe import paths, vcs
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError
from mmpipe.files import write_bytes
from mmpipe.retrain import dvc_config, leftovers
from mmpipe.retrain.apart import environment

RUNS = paths.PRIVATE / "runs"
BRANCHES = "retrain"
"""A run's commit is on the branch `retrain/<number>`; of a workspace in a subfolder `retrain/<folder>/…`."""
_OWN = ("checkpoints", "live", "models")
"""Of `.mmpipe`, what all runs share with one another and with nobody else: one run at a time writes to it."""
_COMMON = (paths.STORE.name, paths.DOWNLOADS.name)
"""What runs share with the checkout: safe for several writers."""
_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")


@dataclass(frozen=True)
class Worktree:
    """`folder`: of the worktree; `root`: of the workspace in it, where stages run.

    `commit`: what it started at. `workspace`: the person's own root; `prefix`: its folder in the git
    repository, "" at the top.
    """

    number: int
    folder: Path
    root: Path
    workspace: Path
    prefix: str
    commit: str

    @property
    def name(self) -> str:
        """Of the run, and of its branch."""
        return "/".join(filter(None, (BRANCHES, self.prefix, str(self.number))))

    @property
    def environment(self) -> dict[str, str]:
        """For every program that the run starts."""
        return environment(self.folder)


def prepare(workspace: Path, commit: str = "HEAD") -> Worktree:
    """Check a commit out into `.mmpipe/runs/<number>`, with DVC's cache and our feature store shared.

    What dead runs left is removed first: call it with the lock held. Raises NotFoundError `workspace` where
    git has no such commit, or the commit no dvc.yaml.
    """
    workspace = workspace.resolve()
    top, prefix = _locate(workspace)
    number = _next_number(workspace, prefix)  # before the dead run that has the last one is forgotten
    sweep(workspace)
    pinned = pin(workspace, commit)
    folder = workspace / RUNS / str(number)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tree = Worktree(number, folder, folder / prefix, workspace, prefix, pinned)
    with ExitStack() as undo:
        undo.callback(remove, tree)
        add = ("worktree", "add", "--quiet", "--detach", "--force")  # git may know one that is gone
        vcs.git(*_QUIET, *add, str(folder), pinned, cwd=top)
        furnish(workspace, tree.root, workspace / RUNS / "shared")
        undo.pop_all()
    return tree


def remove(tree: Worktree) -> None:
    """Take the worktree away, whatever is in it; its branch and DVC's cache stay."""
    leftovers.remove(tree.folder, _metadata(tree.workspace))


def sweep(workspace: Path) -> list[str]:
    """Remove what dead runs left: processes, worktrees, git's notes of them. Says what was there."""
    runs = workspace / RUNS
    there = sorted(path for path in runs.glob("*") if path.name.isdigit() and path.is_dir())
    return [words for path in there for words in leftovers.remove(path, _metadata(workspace))]


def pin(workspace: Path, commit: str) -> str:
    """The full name of a commit."""
    try:
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
        return vcs.git(*words, cwd=workspace).strip()
    except MmpipeError as error:
        if error.code != "command-failed":
            raise
        fix = "git add -A && git commit" if commit == "HEAD" else "name a commit or a branch that is there"
        what = "git has no commit yet" if commit == "HEAD" else f"git has no commit {commit!r}"
        raise NotFoundError("workspace", what, where=str(workspace), fix=fix) from None


def newest(workspace: Path, prefix: str) -> str | None:
    """The branch of the run with the highest number, here or as far as git remotes are known."""
    numbered = _branches(workspace, prefix)
    return numbered[-1][1] if numbered else None


def _locate(workspace: Path) -> tuple[Path, str]:
    top = vcs.git_root(workspace)
    if top is None:
        fix = "git init && git add -A && git commit"
        raise NotFoundError("workspace", "is in no git repository", where=str(workspace), fix=fix)
    return top, vcs.git("rev-parse", "--show-prefix", cwd=workspace).strip().strip("/")


def furnish(workspace: Path, root: Path, own: Path) -> None:
    """Let the checkout at `root` share DVC's cache and the feature store with its `workspace`.

    `own`: the folder with the rest of its `.mmpipe`, which no other checkout writes to at that time. Raises
    NotFoundError `workspace` where the commit has no pipeline, InvalidError `raw-untracked`.
    """
    if not (root / paths.PIPELINE).is_file() or not (root / ".dvc").is_dir():
        what = f"its commit has no {paths.PIPELINE} or no .dvc"
        raise NotFoundError("workspace", what, where=str(workspace), fix="git add -A && git commit")
    _check_raw(workspace, root)
    write_bytes(root / ".dvc/config.local", dvc_config.render(workspace, root).encode())
    private = root / paths.PRIVATE
    private.mkdir()
    for names, place in ((_COMMON, workspace / paths.PRIVATE), (_OWN, own)):
        for name in names:
            (place / name).mkdir(parents=True, exist_ok=True)
            (private / name).symlink_to(place / name)


def _check_raw(workspace: Path, root: Path) -> None:
    """Raw data that no commit knows would be missing here, silently."""
    if (root / f"{paths.RAW}.dvc").is_file() or _raw_files(root):
        return
    there = [path for path in _raw_files(workspace) if path.suffix != ".dvc"]
    if there:
        what = f"holds {len(there)} files that neither git nor DVC tracks, {there[0].name!r} for one"
        raise InvalidError("raw-untracked", what, where=str(workspace / paths.RAW))


def _raw_files(root: Path) -> list[Path]:
    found = (path for path in (root / paths.RAW).rglob("*") if path.is_file())
    return sorted(path for path in found if path.name not in (".gitkeep", ".gitignore"))


def _next_number(workspace: Path, prefix: str) -> int:
    """Counted up from all that is known of runs before; no clock is asked."""
    known = [number for number, _ in _branches(workspace, prefix)]
    known += [int(path.stem) for path in (workspace / RUNS).glob("*") if path.stem.isdigit()]
    return max(known, default=0) + 1


def _branches(workspace: Path, prefix: str) -> list[tuple[int, str]]:
    """(number, full name) of each run's branch, here or at a git remote; one that is here comes last."""
    pattern = re.compile(
        rf"refs/(heads|remotes/[^/]+)/{re.escape('/'.join(filter(None, (BRANCHES, prefix))))}/(\d+)"
    )
    names = vcs.git(
        "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes", cwd=workspace
    ).split()
    found = [(int(match[2]), name) for name in names if (match := pattern.fullmatch(name))]
    return sorted(found, key=lambda pair: (pair[0], pair[1].startswith("refs/heads")))


def _metadata(workspace: Path) -> Path:
    """Where git notes its worktrees."""
    common = vcs.git("rev-parse", "--path-format=absolute", "--git-common-dir", cwd=workspace).strip()
    return Path(common) / "worktrees"
