"""Real lock files, real processes, real DVC."""

import fcntl
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mmpipe import locks
from mmpipe.cli import app
from mmpipe.errors import LockedError, NotFoundError

DAMAGED = [
    "",
    "{",
    '{"write": {"/a": {"pid"',
    "[]",
    '{"write": {"/a": {"pid": "7", "cmd": "x"}}}',
    '{"read": 3}',
]


@pytest.fixture
def lock(tmp_path):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path / ".dvc/tmp/rwlock"


@pytest.fixture
def process():
    """Starts a process that waits, with words of one's choice behind it."""
    started = []

    def start(*words):
        code = "import sys; print('up', flush=True); sys.stdin.read()"
        made = subprocess.Popen([sys.executable, "-c", code, *words], stdin=-1, stdout=-1)
        started.append(made)
        assert made.stdout.readline() == b"up\n"
        return made

    yield start
    for each in started:
        each.communicate()


def entry(pid):
    return {"pid": pid, "cmd": "repro"}


def age(lock, seconds=60):
    """Let the lock have been written before any process of the test began."""
    before = lock.stat().st_mtime - seconds
    os.utime(lock, (before, before))


def test_without_a_lock_nothing_is_done(lock, tmp_path):
    assert locks.heal(tmp_path) == []
    assert list(lock.parent.iterdir()) == []


def test_outside_of_dvc_it_is_said(tmp_path):
    with pytest.raises(NotFoundError, match=r"no \.dvc here or above"):
        locks.heal(tmp_path)


@pytest.mark.parametrize("content", DAMAGED)
def test_what_dvc_would_refuse_for_ever_is_removed(lock, tmp_path, content):
    lock.write_text(content)
    (tmp_path / "sub").mkdir()
    [said] = locks.heal(tmp_path / "sub")
    assert "removed" in said and not lock.exists()


def test_entries_of_the_dead_and_of_other_programs_are_removed(lock, tmp_path, process):
    reused, dead = process("dvcx", "my.dvc"), process()
    dead.communicate()
    lock.write_text(json.dumps({"write": {"/a": entry(reused.pid)}, "read": {"/b": [entry(dead.pid)]}}))
    age(lock)
    assert len(locks.heal(tmp_path)) == 2
    assert not lock.exists()
    assert reused.poll() is None


def test_one_that_was_killed_and_not_reaped_is_dead(lock, tmp_path, process):
    zombie = process("dvc")
    zombie.kill()
    subprocess.run(["sleep", "0.2"], check=True)
    lock.write_text(json.dumps({"write": {"/a": entry(zombie.pid)}}))
    assert len(locks.heal(tmp_path)) == 1


def test_a_living_dvc_keeps_its_own_entries_and_only_those(lock, tmp_path, process):
    living, other = process("-m", "dvc"), process("/x/dvc.py")
    reads = {"/b": [entry(living.pid), entry(other.pid)], "/c": [entry(other.pid)]}
    lock.write_text(json.dumps({"write": {"/a": entry(living.pid), "/d": entry(other.pid)}, "read": reads}))
    age(lock)
    written = lock.stat().st_mtime_ns
    for _ in range(2):
        with pytest.raises(LockedError, match=f"locked .*process number {living.pid}"):
            locks.heal(tmp_path)
    assert lock.stat().st_mtime_ns == written
    kept = {"write": {"/a": entry(living.pid)}, "read": {"/b": [entry(living.pid)]}}
    assert json.loads(lock.read_text()) == kept


def test_a_program_that_uses_dvc_as_a_library_keeps_its_lock(tmp_path):
    code = """
import sys
from dvc.repo import Repo
from dvc.rwlock import rwlock
repo = Repo.init(no_scm=True)
with rwlock(repo.tmp_dir, repo.fs, "reproduce", [], ["/a"], False):
    print("up", flush=True)
    sys.stdin.read()
"""
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=-1, stdout=-1)
    try:
        assert b"up\n" in iter(owner.stdout.readline, b"")
        with pytest.raises(LockedError, match=f"process number {owner.pid} is at work on /a"):
            locks.heal(tmp_path)
    finally:
        owner.kill()
        owner.communicate()
    assert len(locks.heal(tmp_path)) == 1


@pytest.mark.parametrize("seconds", [-60, 0, 2])
def test_on_doubt_about_the_clock_an_entry_stays(lock, tmp_path, process, seconds):
    lock.write_text(json.dumps({"write": {"/a": entry(process("words").pid)}}))
    age(lock, seconds)
    with pytest.raises(LockedError):
        locks.heal(tmp_path)


def test_a_dvc_that_is_writing_the_lock_is_waited_for_and_then_named(lock, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    lock.touch()  # as it is for a moment while dvc rewrites it
    with (lock.parent / "rwlock.lock").open("w") as guard:
        guard.write(" 4711\n")
        guard.flush()
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="4711"):
            locks.heal(tmp_path)
    assert lock.exists()
    assert len(locks.heal(tmp_path)) == 1


def test_the_command_says_what_it_did_and_ends_with_7_while_dvc_runs(lock, tmp_path, monkeypatch, process):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["unlock"]).stdout == "no stale lock\n"
    lock.touch()
    [said] = json.loads(CliRunner().invoke(app, ["unlock", "--json"]).stdout)
    assert str(lock) in said
    lock.write_text(json.dumps({"write": {"/a": entry(process("dvc").pid)}}))
    done = CliRunner().invoke(app, ["unlock"])
    assert done.exit_code == 7 and done.stderr.startswith("locked ")


def test_dvc_runs_again_after_it(tmp_path):
    def dvc(*words):
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=tmp_path, capture_output=True, text=True
        )

    assert dvc("init", "--no-scm", "-q").returncode == 0
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > a\n    outs: [a]\n")
    lock = tmp_path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    assert dvc("repro").returncode == 255
    locks.heal(tmp_path)
    assert dvc("repro").returncode == 0
    assert (tmp_path / "a").read_text() == "1\n"
