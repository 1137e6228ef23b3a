import hashlib
import json
import os
import socket

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


def test_write_replaces_what_a_kill_left_half_written(tmp_path):
    (tmp_path / ".x.tmp").write_text("half")
    files.write_bytes(tmp_path / "x", b"whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "whole"}


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
    with pytest.raises(OSError, match="No space"), files.atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("wb", buffering=0) as file:
            file.write(b"x")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
