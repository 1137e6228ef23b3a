"""What DVC's remote really holds of a workspace: each object asked for there, the bundle's read back whole.

DVC itself asks its own notes of former pushes, and takes all files of a folder to be where its list is.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import bundle, lockfile
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.registry import remote
from mmpipe.registry.pull import MAX_MANIFEST

BLOCK = 1 << 24
MAX_LIST = 1 << 30
"""Bytes of the list of one folder's files."""
_DONE = "nothing was tagged"
_DAMAGED_FIX = "delete it there, then publish again: what is lost is sent once more"


@dataclass(frozen=True)
class Object:
    """What the remote should hold: an output, the list of a folder that is one, or a file of that list.

    `path`: from the workspace. `hash`, `odb`: DVC's own `HashInfo` and object database.
    """

    path: str
    hash: Any
    odb: Any

    @property
    def oid(self) -> str:
        """The hash, which names the object."""
        return str(self.hash.value)

    @property
    def place(self) -> str:
        """Where it lies, as path or URL."""
        return remote.public(str(self.odb.fs.unstrip_protocol(self.odb.oid_to_path(self.oid))))


def lacking(root: Path) -> list[Object]:
    """The objects of all outputs that `dvc push` sends, as far as the remote does not have them.

    Raises VerificationError `object-damaged` for the list of a folder, TemporaryError `remote-failed`,
    InvalidError `data-unpushed` for a remote of a kind that is not for publishing.
    """
    with _opened(root) as repo:
        wanted = [_object(repo, root, out) for out in repo.index.outs if _is_pushed(out)]
        lost = _absent(wanted)
        gone = {one.oid for one in lost}
        lists = [one for one in wanted if one.hash.isdir and one.oid not in gone]
        return lost + _absent([file for one in lists for file in _files(one)])


def send(root: Path, lost: Iterable[Object]) -> None:
    """Copy what the remote lost from the cache here, as far as that has it; nothing there is replaced."""
    from dvc_data.hashfile.transfer import transfer

    with _opened(root) as repo:
        for odb, objects in _by_storage(lost):
            cache = repo.cache.legacy if odb.hash_name == "md5-dos2unix" else repo.cache.local
            ids = {one.hash for one in objects if cache.exists(one.oid)}
            # without DVC's notes, with the files of each list, and what arrived is hashed
            transfer(cache, odb, ids, cache_odb=cache, shallow=False, verify=True)


def check_bundle(root: Path, path: str, digest: str) -> None:
    """Read a bundle's objects from the remote alone, and every byte must be the one that is to be published.

    Raises VerificationError `object-damaged` naming the object, and as `lacking` does.
    """
    with _opened(root) as repo:
        out = next((out for out in repo.index.outs if _path(root, out) == path), None)
        if out is None:
            what = "is in dvc.lock, and no stage of dvc.yaml makes it: nobody could pull it"
            raise InvalidError("pipeline-stale", what, where=path, done=_DONE)
        if not out.use_cache:
            return  # git has it
        if not out.can_push:
            fix = "take `push: false` from it in dvc.yaml"
            raise InvalidError("data-unpushed", "is never pushed", where=path, done=_DONE, fix=fix)
        held = {file.path.removeprefix(f"{path}/"): file for file in _files(_object(repo, root, out))}
        manifest = held[bundle.MANIFEST]
        try:
            entries, found = bundle.parse(_read(manifest, MAX_MANIFEST), manifest.place)
            if found != digest:
                what = f"is of bundle {found[:12]}, here is {digest[:12]}"
                raise VerificationError("bundle-damaged", what, where=manifest.place)
            for entry in entries:
                entry.check(_read(held[entry.path], entry.size), held[entry.path].place)
        except VerificationError as error:
            raise _damaged(error.what, error.where) from None


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """DVC's own `Repo`, with no notes of what it once saw at the remote."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Repo(str(root), config={"core": {"site_cache_dir": scratch}}) as repo:
                yield repo
        except (DvcException, OSError, *remote.network_errors()) as error:
            raise remote.failed(error, str(root), done=_DONE) from error


def _is_pushed(out: Any) -> bool:
    """Whether `dvc push` sends an output."""
    return bool(out.use_cache and out.can_push and out.hash_info and not out.stage.is_repo_import)


def _object(repo: Any, root: Path, out: Any) -> Object:
    found = repo.cloud.get_remote(out.remote)
    if found.fs.version_aware:
        what = "keeps versions of its own, which no commit records: no other place could pull them by tag"
        fix = "dvc remote modify NAME version_aware false"
        raise InvalidError("data-unpushed", what, where=f"DVC remote {found.name}", done=_DONE, fix=fix)
    odb = found.legacy_odb if out.hash_name == "md5-dos2unix" else found.odb
    return Object(_path(root, out), out.hash_info, odb)


def _path(root: Path, out: Any) -> str:
    return Path(os.path.relpath(out.fs_path, root.resolve())).as_posix()


def _files(folder: Object) -> list[Object]:
    """The files of a folder, by its list at the remote."""
    from dvc_data.hashfile.hash_info import HashInfo

    data = _read(folder, MAX_LIST)
    if lockfile.md5(data) + lockfile.DIR != folder.oid:
        raise _damaged("is a list of files with another md5 than its name says", folder.place)
    found = []
    for entry in json.loads(data):
        name, value = next((name, entry[name]) for name in ("md5", "md5-dos2unix") if name in entry)
        found.append(Object(f"{folder.path}/{entry['relpath']}", HashInfo(name, value), folder.odb))
    return found


def _read(one: Object, limit: int) -> bytes:
    blocks, size = [], 0
    try:
        with one.odb.fs.open(one.odb.oid_to_path(one.oid), "rb") as file:
            while size <= limit and (block := file.read(BLOCK)):
                blocks.append(block)
                size += len(block)
    except FileNotFoundError:
        raise InvalidError(
            "data-unpushed", f"does not hold {one.path}", where=one.place, done=_DONE
        ) from None
    if size > limit:
        raise _damaged(f"is larger than {limit:,} bytes", one.place)
    return b"".join(blocks)


def _absent(wanted: Iterable[Object]) -> list[Object]:
    """Those that are not there, one for each object."""
    found = []
    for odb, objects in _by_storage(wanted):
        by_oid = {one.oid: one for one in objects}
        there = _there(odb, by_oid)
        found += [one for oid, one in by_oid.items() if oid not in there]
    return found


def _there(odb: Any, oids: Iterable[str]) -> set[str]:
    from dvc_data.hashfile.db.local import LocalHashFileDB

    # asked all at once, DVC's database of a folder hashes what may be written, and deletes what is damaged
    one_by_one = isinstance(odb, LocalHashFileDB)
    return set(odb.list_oids_exists(list(oids)) if one_by_one else odb.oids_exist(list(oids)))


def _by_storage(objects: Iterable[Object]) -> list[tuple[Any, list[Object]]]:
    found: dict[Any, list[Object]] = {}
    for one in objects:
        found.setdefault(one.odb, []).append(one)
    return list(found.items())


def _damaged(what: str, where: str) -> VerificationError:
    return VerificationError("object-damaged", what, where=where, done=_DONE, fix=_DAMAGED_FIX)
