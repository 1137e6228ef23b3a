"""A clean checkout of a version's commit in a folder of our own: no cache, no store, nothing run before."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpipe import files, lockfile, paths, vcs, yaml_text
from mmpipe.errors import LockedError, MmpipeError, SampleError, VerificationError
from mmpipe.registry import remote
from mmpipe.registry.records import Version

FOLDER = paths.PRIVATE / "reproduce"
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")
"""DVC's own hook would fill the checkout from the cache."""
CONFIG = "[core]\n    analytics = false\n    autostage = false\n[cache]\n    dir = cache\n"
"""Of `.dvc/config.local`, which goes before what the commit and the user have."""


@contextmanager
def checkout(version: Version, source: str, *, keep: bool = False) -> Iterator[Path]:
    """The workspace of a version, below `.mmpipe/reproduce`; it goes at the end unless `keep`.

    A git worktree where `source` is the repository here, else a clone. Raises LockedError `locked` where the
    same is at work here already, and as git does.
    """
    place = FOLDER.absolute() / version.tag.replace("/", "_")
    with _held(place.with_name(f"{place.name}.lock")):
        _remove(place)
        try:
            _bring(source, version.commit, place)
            root = place / version.name.rpartition(":")[0]
            files.write_bytes(root / ".dvc/config.local", CONFIG.encode())
            yield root
        finally:
            if not keep:
                _remove(place)


def bring_data(version: Version, source: str, root: Path) -> list[str]:
    """Bring what the commit's `.dvc` files name, one's own data as a rule; the paths brought.

    Raises VerificationError `object-damaged` where the bytes are not the recorded ones, and as
    `remote.opened` does.
    """
    wanted = [path for name in _dvc_files(root) for path in _outs(root, name)]
    if wanted:
        with remote.opened(source, version.commit, version.name) as fs:
            for path in wanted:
                _get(fs, path, root)
    return wanted


def bring_downloads(root: Path) -> None:
    """Spare the network: a corpus' package that was fetched before; the stage checks its hash."""
    if paths.DOWNLOADS.is_dir():
        shutil.copytree(paths.DOWNLOADS, root / paths.DOWNLOADS)


def _bring(source: str, commit: str, place: Path) -> None:
    here = vcs.git_root(Path())
    there = vcs.git_root(Path(source)) if Path(source).is_dir() else None
    if here is not None and here == there:
        vcs.git(*NO_HOOKS, "worktree", "add", "--quiet", "--detach", str(place), commit, cwd=here)
        return
    try:
        vcs.git(*NO_HOOKS, "clone", "--quiet", "--no-checkout", "--", source, str(place), cwd=Path())
    except MmpipeError as error:  # git's words may hold the URL with its password
        raise MmpipeError("remote-failed", remote.public(error.what), where=remote.public(source)) from None
    vcs.git(*NO_HOOKS, "checkout", "--quiet", "--detach", commit, cwd=place)


def _remove(place: Path) -> None:
    """The folder, and what git knows of it."""
    if place.exists():
        shutil.rmtree(place)
    if vcs.git_root(Path()) is not None:
        vcs.git("worktree", "prune", cwd=Path())


@contextmanager
def _held(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "locked", "is at work here already", where=f"mmpipe reproduce {path.stem}"
            ) from None
        yield


def _dvc_files(root: Path) -> list[str]:
    listed = vcs.git("ls-files", "-z", "--", "*.dvc", cwd=root)
    return [name for name in listed.split("\0") if name]


def _outs(root: Path, name: str) -> list[str]:
    """Paths relative to `root`."""
    tree = yaml_text.parse((root / name).read_bytes(), Path(name)).plain()
    folder = Path(name).parent / str(tree.get("wdir", ""))
    return [(folder / str(out["path"])).as_posix() for out in tree.get("outs", [])]


def _get(fs: remote.Fs, path: str, root: Path) -> None:
    recorded = {name: info.get("md5") for name, info in fs.find(path, detail=True).items()}
    for name in recorded:
        try:
            files.safe_join(root, name)
        except SampleError as error:
            raise VerificationError("object-damaged", error.what, where=path) from None
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    fs.get(path, str(root / path), recursive=fs.isdir(path))
    for name, wanted in recorded.items():
        found = lockfile.hashed(root / name)
        if found != wanted:
            what = f"has md5 {found and found[:12]}, the commit records {wanted and wanted[:12]}"
            raise VerificationError("object-damaged", what, where=name)
