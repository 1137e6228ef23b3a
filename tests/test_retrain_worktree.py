import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from retrained import call, commit, state
from workspace import Workspace

from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.processes import alive
from mmpipe.retrain import apart, dvc_config, publishing, sampled, worktree


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace of one committed stage, not yet run."""
    workspace = Workspace(tmp_path_factory.mktemp("worktree") / "w")
    Workspace(workspace.root.parent).run("mmpipe", "init", "w")
    (workspace.root / "dvc.yaml").write_text("stages: {}\n")
    for key, value in (("name", "Per Son"), ("email", "person@example.org")):
        workspace.run("git", "config", f"user.{key}", value)
    commit(workspace, "first")
    return workspace


@pytest.fixture
def tree(made):
    """A worktree of a run; at the end it must be gone without a trace."""
    before = state(made)
    tree = worktree.prepare(made.root)
    yield tree
    worktree.remove(tree)
    assert state(made) == before
    assert not tree.folder.exists()
    assert made.run("git", "worktree", "list").stdout.count("\n") == 1


def test_nothing_but_the_commit_comes_in(made, tree):
    (made.root / "edited").write_text("by the person")
    later = worktree.prepare(made.root)  # the first is taken for that of a dead run, and removed
    assert not (later.root / "edited").exists() and not tree.folder.exists()
    assert later.commit == made.run("git", "rev-parse", "HEAD").stdout.strip()
    assert (later.root / "params.yaml").read_bytes() == (made.root / "params.yaml").read_bytes()
    (later.root / "params.yaml").write_text("of the run")
    worktree.remove(later)
    (made.root / "edited").unlink()


def test_the_store_is_the_persons_and_checkpoints_are_the_runs(made, tree):
    for name, place in (("store", ".mmpipe/store"), ("checkpoints", ".mmpipe/runs/shared/checkpoints")):
        (tree.root / ".mmpipe" / name / "x").write_text(name)
        assert (made.root / place / "x").read_text() == name


def test_what_is_kept_for_the_summary_is_not_of_the_commit(made, tree):
    (tree.root / "data/samples.parquet").write_bytes(b"before")
    before = publishing.changed(tree.root)
    kept = sampled.keep(tree.root)
    assert kept.read_bytes() == b"before" and sampled.same(kept, tree.root)
    assert publishing.changed(tree.root) == before


def test_numbers_go_up_and_count_branches_too(made, tree):
    assert tree.name == f"retrain/{tree.number}"
    made.run("git", "branch", "retrain/40")
    made.run("git", "branch", "retrain/8x")
    try:
        later = worktree.prepare(made.root)
        assert later.number == 41
        assert worktree.newest(made.root, "") == "refs/heads/retrain/40"
        worktree.remove(later)
    finally:
        made.run("git", "branch", "-D", "retrain/40", "retrain/8x")


def test_the_git_hooks_of_the_person_do_not_run(made):
    hook = made.root / ".git/hooks/post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    tree = worktree.prepare(made.root)
    try:
        assert not (tree.folder / "hooked").exists()
    finally:
        hook.unlink()
        worktree.remove(tree)


def test_dvc_has_the_cache_of_the_workspace_and_whole_paths(made, tree):
    (made.root / ".dvc/config.local").write_text(
        "['remote \"near\"']\n    url = ../../store\n    user = me\n"
    )
    (tree.root / ".dvc/config").write_text("['remote \"far\"']\n    url = s3://bucket/x\n    keyfile = key\n")
    text = dvc_config.render(made.root, tree.root)
    (tree.root / ".dvc/config.local").write_text(text)
    (made.root / ".dvc/config.local").unlink()
    listed = Workspace(tree.root).run("dvc", "config", "--list").stdout.splitlines()
    parent = made.root.parent
    assert {
        f"remote.near.url={parent / 'store'}",
        "remote.near.user=me",
        "remote.far.url=s3://bucket/x",
        f"remote.far.keyfile={made.root / '.dvc/key'}",
        f"cache.dir={made.root / '.dvc/cache'}",
    } <= set(listed)


def test_a_shared_cache_stays_the_cache(made, tree):
    (made.root / ".dvc/config.local").write_text("[cache]\n    dir = /shared/cache\n    type = hardlink\n")
    text = dvc_config.render(made.root, tree.root)
    (made.root / ".dvc/config.local").unlink()
    assert "dir = /shared/cache" in text and "type = hardlink" in text


PREPARE = """
import os, subprocess, sys, time
from pathlib import Path
from mmpipe.retrain import worktree
tree = worktree.prepare(Path(sys.argv[1]))
quiet = {"stdout": subprocess.DEVNULL, "start_new_session": True}
child = subprocess.Popen(["sleep", "60"], env=os.environ | tree.environment, **quiet)
print(tree.folder, child.pid, flush=True)
time.sleep(60)
"""


def test_what_a_killed_run_left_is_removed_by_the_next(made):
    """A worktree, git's notes of it, and a process that writes on."""
    before = state(made)
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(made.root)], stdout=subprocess.PIPE, text=True
    )
    folder, child = process.stdout.readline().split()
    process.kill()
    process.communicate()
    assert Path(folder).exists() and alive(int(child))
    assert state(made) == before
    tree = worktree.prepare(made.root)
    assert tree.number == int(Path(folder).name) + 1
    worktree.remove(tree)
    assert not Path(folder).exists() and not alive(int(child))
    assert made.run("git", "worktree", "list").stdout.count("\n") == 1
    assert state(made) == before


def test_a_folder_that_somebody_removed_does_not_stop_the_next_run(made):
    lost = worktree.prepare(made.root)
    shutil.rmtree(lost.folder.parent)
    later = worktree.prepare(made.root)
    assert later.folder == lost.folder and (later.root / "params.yaml").is_file()
    worktree.remove(later)
    assert made.run("git", "worktree", "list").stdout.count("\n") == 1


def test_a_worktree_of_the_person_stays(made, tmp_path):
    made.run("git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"))
    worktree.remove(worktree.prepare(made.root))
    assert (tmp_path / "mine/params.yaml").is_file()
    assert str(tmp_path / "mine") in made.run("git", "worktree", "list").stdout
    made.run("git", "worktree", "remove", str(tmp_path / "mine"))


def test_raw_data_that_nothing_tracks_are_refused(made):
    (made.root / "data/raw/rows.csv").write_text("id,text,label\n")
    try:
        with pytest.raises(
            InvalidError, match=r"raw-untracked .*1 files that neither .* 'rows.csv'.*dvc add"
        ):
            worktree.prepare(made.root)
    finally:
        (made.root / "data/raw/rows.csv").unlink()
    assert not any(path.name.isdigit() for path in (made.root / ".mmpipe/runs").iterdir() if path.is_dir())


def test_no_git_no_commit_no_pipeline_are_told(tmp_path, made):
    with pytest.raises(NotFoundError, match="is in no git repository"):
        worktree.prepare(tmp_path)
    with pytest.raises(NotFoundError, match="has no commit 'nowhere'"):
        worktree.prepare(made.root, "nowhere")
    with pytest.raises(NotFoundError, match="has no commit '--help'"):
        worktree.prepare(made.root, "--help")
    empty = Workspace(tmp_path)
    empty.run("git", "init", "--quiet")
    with pytest.raises(NotFoundError, match="no commit yet"):
        worktree.prepare(tmp_path)
    for key, value in (("name", "x"), ("email", "x@y")):
        empty.run("git", "config", f"user.{key}", value)
    commit(empty, "empty")
    with pytest.raises(NotFoundError, match=r"has no dvc\.yaml"):
        worktree.prepare(tmp_path)


def test_a_workspace_in_a_subfolder_has_branches_of_its_own(tmp_path):
    top = Workspace(tmp_path)
    top.run("git", "init", "--quiet")
    for key, value in (("name", "x"), ("email", "x@y")):
        top.run("git", "config", f"user.{key}", value)
    top.run("mmpipe", "init", "team/vision")
    commit(top, "first")
    tree = worktree.prepare(tmp_path / "team/vision")
    try:
        assert tree.name == "retrain/team/vision/1"
        assert tree.root == tree.folder / "team/vision" and (tree.root / "dvc.yaml").is_file()
        assert (tree.root / ".mmpipe/store").resolve() == tmp_path / "team/vision/.mmpipe/store"
    finally:
        worktree.remove(tree)
    assert top.run("git", "status", "--porcelain").stdout == ""


def test_a_step_brings_its_error_back(made, tree):
    arguments = {"landing": None, "update_imports": False, "values": {"train.lr": -1}, "before": None}
    with pytest.raises(InvalidError, match=r"train\.lr: should be greater than 0, not -1") as caught:
        call(
            apart.call,
            "snapshot",
            arguments,
            cwd=tree.root,
            variables=tree.environment,
            say=lambda line: None,
        )
    assert caught.value.exit_status == 5
