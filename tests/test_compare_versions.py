"""Published versions against one another and against a workspace, with real git and real DVC."""

import hashlib
import json
import shutil

import pytest
import tagging
import tiny_versions
from tiny_versions import call, changed_rows, compare
from workspace import Workspace

from mmpipe import paths

TRACKED = (paths.SAMPLES, paths.SPLITS, paths.PREDICTIONS, paths.CODE, paths.BUNDLE)


def publish(workspace: Workspace, version: str) -> None:
    """What lies there as a version: data by DVC, the rest by git."""
    workspace.run("dvc", "add", "--quiet", *map(str, TRACKED))
    tagging.publish(workspace, version)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """v1.0.0 and v1.1.0 in `w`, each as a folder beside it, and a bare clone with its data on a remote."""
    base = tmp_path_factory.mktemp("published")
    workspace = Workspace(base / "w", tagging.AUTHOR)
    tiny_versions.write(workspace.root)
    workspace.run("git", "init", "--quiet")
    workspace.run("dvc", "init", "--quiet")
    workspace.run("dvc", "remote", "add", "--default", "store", str(base / "store"))
    publish(workspace, "v1.0.0")
    shutil.copytree(workspace.root, base / "v1.0.0", ignore=shutil.ignore_patterns(".git", ".dvc"))
    tiny_versions.write(workspace.root, changed_rows(), accuracy=0.75, weights=b"other weights")
    publish(workspace, "v1.1.0")
    shutil.copytree(workspace.root, base / "v1.1.0", ignore=shutil.ignore_patterns(".git", ".dvc"))
    workspace.run("dvc", "push", "--quiet", "--all-commits")
    workspace.run("git", "clone", "--quiet", "--bare", str(workspace.root), str(base / "bare.git"))
    return base


def same(found, folders) -> bool:
    """But for what the two sides are called."""
    return [found[name] for name in found if name not in ("old", "new")] == [
        json.loads(json.dumps(folders[name])) for name in folders if name not in ("old", "new")
    ]


def test_two_tags_as_their_folders(published, monkeypatch):
    monkeypatch.chdir(published / "w")
    found = json.loads(call("fusion@v1.0.0", "fusion@latest", "--json").stdout)
    assert same(found, compare(published / "v1.0.0", published / "v1.1.0"))
    assert [found[key]["name"] for key in ("old", "new")] == ["fusion@v1.0.0", "fusion@v1.1.0"]
    assert len(found["old"]["commit"]) == 40 != found["new"]["commit"]
    assert found["predictions"]["flips"]["wrong to right"]["count"] == 1


def test_a_tag_and_what_lies_here_now(published, monkeypatch):
    monkeypatch.chdir(published / "w")
    found = json.loads(call("fusion@v1.1.0", ".", "--json").stdout)
    assert found["new"]["name"] == "workspace"
    assert found["old"]["bundle_sha256"] == found["new"]["bundle_sha256"]
    assert found["data"]["changed"]["count"] == 0 and found["code"] == []


def test_from_a_bare_clone_elsewhere(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = str(published / "bare.git")
    found = json.loads(call("fusion@v1.0.0", "fusion@v1.1.0", "--from", source, "--json").stdout)
    assert same(found, compare(published / "v1.0.0", published / "v1.1.0"))


def test_an_object_that_is_gone_is_said_and_the_rest_goes_on(published, tmp_path, monkeypatch):
    shutil.copytree(published / "w", tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    cached(tmp_path / "w", published / "v1.0.0" / paths.PREDICTIONS).unlink()
    (published / "store").rename(published / "away")
    try:
        found = json.loads(call("fusion@v1.0.0", "fusion@v1.1.0", "--json").stdout)
    finally:
        (published / "away").rename(published / "store")
    assert "fusion@v1.0.0 data/predictions.parquet is not in" in found["predictions"]["missing"]
    assert found["data"]["added"]["count"] == 2


def test_an_object_with_other_bytes_is_named(published, tmp_path, monkeypatch):
    shutil.copytree(published / "w", tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    path = cached(tmp_path / "w", published / "v1.0.0" / paths.SPLITS)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    done = call("fusion@v1.0.0", "fusion@v1.1.0")
    assert done.exit_code == 6
    assert "object-damaged data/splits.parquet has md5" in done.stderr


def cached(root, like):
    """DVC's object with a file's bytes."""
    digest = hashlib.md5(like.read_bytes()).hexdigest()
    return root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
