import errno
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys

import pytest

from mmpipe import files
from mmpipe.errors import SampleError


def code_of(call):
    with pytest.raises(SampleError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "~/x",
        "file:///etc/passwd",
        "http://x/y.png",
        "a\0b",
        "link/secret",
        "link-to-file",
        "loop",
        "\ud800.png",
    ],
)
def test_safe_join_refuses_names_that_leave(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path)
    (root / "link-to-file").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    assert code_of(lambda: files.safe_join(root, name)) == "path-escapes"


@pytest.mark.parametrize("name", ["a.png", "b/../a.png", "%2e%2e/a.png", "..a", "a b/ü.png", "inner"])
def test_safe_join_keeps_names_below(tmp_path, name):
    (tmp_path / "a.png").touch()
    (tmp_path / "inner").symlink_to(tmp_path / "a.png")
    assert files.safe_join(tmp_path, name) == tmp_path / name


def test_read_guarded_reads_whole_files(tmp_path):
    path = tmp_path / "x"
    data = os.urandom(300_000)
    path.write_bytes(data)
    assert files.read_guarded(path, max_bytes=300_000) == data


def test_read_guarded_takes_no_more_memory_than_the_file_needs(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    assert files.read_guarded(tmp_path / "x", max_bytes=1 << 62) == b"x"


def test_read_guarded_refuses_what_is_no_plain_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "big").write_bytes(b"x" * 11)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    names = {
        "fifo": "file-not-regular",
        ".": "file-not-regular",
        "socket": "file-not-regular",
        "missing": "file-missing",
        "empty": "file-empty",
        "big": "file-too-large",
        "empty/x": "file-not-regular",
    }
    for name, code in names.items():
        assert code_of(lambda name=name: files.read_guarded(tmp_path / name, max_bytes=10)) == code, name
    server.close()
    assert code_of(lambda: files.read_guarded(files.Path("/dev/zero"), max_bytes=10)) == "file-not-regular"


def test_a_failing_machine_is_not_the_files_fault(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            files.read_guarded(path, max_bytes=10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EMFILE, str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that opens and cannot be read")
def test_an_error_in_the_middle_of_reading_names_the_file():
    path = files.Path("/proc/self/mem")  # a regular file, whose first page nobody has
    with pytest.raises(OSError, match="Input/output error") as caught:
        files.read_guarded(path, max_bytes=10)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))


def test_hashes_agree(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert (
        files.sha256_file(path)
        == files.sha256(path.read_bytes())
        == hashlib.sha256(b"abc" * 100_000).hexdigest()
    )


def test_canonical_json_depends_on_the_value_alone():
    one, two = {"b": [1, 2.5], "a": {"y": "ü", "x": None}}, {"a": {"x": None, "y": "ü"}, "b": [1, 2.5]}
    assert files.canonical_json(one) == files.canonical_json(two)
    assert json.loads(files.canonical_json(one)) == one
    with pytest.raises(ValueError, match="JSON compliant"):
        files.canonical_json(float("nan"))


def test_write_replaces_whole_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep/x.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_the_dead_left_is_removed_and_what_the_living_write_is_not(tmp_path, dead):
    for name in (f".x.{dead}.tmp", f".x.{os.getppid()}.tmp", f".x.{os.getpid()}.tmp", f".xy.{dead}.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".x.{dead}.old.tmp").mkdir()
    files.write_bytes(tmp_path / "x", b"whole")
    left = {f".x.{os.getppid()}.tmp": "half", f".xy.{dead}.tmp": "half", "x": "whole"}
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == left


def test_two_processes_that_write_one_path_do_not_meet(tmp_path):
    """An older run that is ended while a newer one writes takes away its own half only."""
    path = tmp_path / "x"
    code = f"""
import sys
from pathlib import Path
from mmpipe import files
with files.atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("old")
    print("up", flush=True)
    sys.stdin.read()
    raise SystemExit
"""
    older = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)
    assert older.stdout.readline() == b"up\n"
    with files.atomic_path(path) as temporary:
        temporary.write_text("new")
        older.communicate()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "new"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another_whole(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for content in "ab":
        with files.atomic_folder(tmp_path / "deep/f") as folder:
            (folder / content).write_text(content)
            there = sorted(path.name for path in (tmp_path / "deep").glob("f/*"))
            assert there == ([] if content == "a" else ["a"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f"]
    assert [path.name for path in (tmp_path / "deep/f").iterdir()] == ["b"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_folders_are_exchanged_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert files._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    assert not files._exchange(tmp_path / "a", tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a moment without either")
def test_at_no_moment_is_there_no_folder_or_half_of_one(tmp_path):
    code = f"""
from pathlib import Path
from mmpipe import files
for number in range(200):
    with files.atomic_folder(Path({str(tmp_path / "f")!r})) as folder:
        for name in "abc":
            (folder / name).write_text(str(number))
"""
    with files.atomic_folder(tmp_path / "f") as folder:
        for name in "abc":
            (folder / name).touch()
    writer = subprocess.Popen([sys.executable, "-c", code])
    looks = 0
    while writer.poll() is None:
        there = os.open(tmp_path / "f", os.O_RDONLY)  # the folder itself, whatever its name is by now
        names = sorted(entry.name for entry in os.scandir(there))
        os.close(there)
        assert names == ["a", "b", "c"] or names != sorted(
            path.name for path in (tmp_path / "f").iterdir()
        )  # or it goes
        looks += 1
    assert writer.returncode == 0 and looks > 10


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").touch()
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "f") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["f", "f/old"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file(tmp_path, kind):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(kind), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise kind
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(OSError, match="No space") as caught, files.atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("wb", buffering=0) as file:
            file.write(b"x")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_only_errors_of_the_disk_are_laid_to_the_path(tmp_path):
    for error, name in (
        (OSError(errno.EAGAIN, "no more processes"), None),
        (OSError(errno.EIO, "x", "/other"), "/other"),
        (OSError(errno.EIO, "x"), str(tmp_path / "x")),
    ):
        with pytest.raises(OSError) as caught, files.atomic_path(tmp_path / "x"):
            raise error
        assert caught.value.filename == name
