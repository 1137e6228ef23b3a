"""What one row's files are worth: facts, or the first fault with its code."""

import os

import pytest
from rows import BOMB, JPEG, PNG, row, wav

from mmpipe import schema
from mmpipe.inspection import Facts, Fault, Limits, inspect


def looked(folder, **cells) -> Facts | Fault:
    return inspect(row(folder, **cells), Limits())


@pytest.mark.parametrize(
    ("column", "data", "code"),
    [
        ("image", b"", "file-empty"),
        ("audio", b"", "file-empty"),
        ("text_path", b"", "file-empty"),
        ("image", JPEG[:-500], "image-damaged"),
        ("image", PNG[:-20], "image-damaged"),
        ("image", b"<html><body>not found</body></html>", "image-not"),
        ("image", BOMB, "image-too-large"),
        ("image", b"<svg xmlns='x'></svg>", "image-format"),
        ("audio", wav()[:-100], "audio-truncated"),
        ("audio", PNG, "audio-format"),
        ("text_path", b"caf\xe9", "text-encoding"),
    ],
)
def test_bad_files_are_faults_with_their_hash(tmp_path, column, data, code):
    (tmp_path / "file").write_bytes(data)
    found = looked(tmp_path, **{column: "file"})
    assert isinstance(found, Fault) and found.code == code
    assert found.modality == ("text" if column == "text_path" else column)
    assert (found.sha256 is None) == (code == "file-empty")


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "file:///etc/passwd", "a\0b", "%2e%2e/secret.png", "out.png", "loop"],
)
def test_paths_that_leave_the_folder(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "loop").symlink_to(folder / "loop")
    found = looked(folder, image=name)
    assert isinstance(found, Fault) and found.code == "path-escapes"


def test_links_within_the_folder_are_followed(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").symlink_to("a.png")
    assert isinstance(looked(tmp_path, image="b.png"), dict)


def test_fifo_folder_and_missing_file_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder").mkdir()
    codes = {name: looked(tmp_path, audio=name).code for name in ("pipe.wav", "folder", "none.wav")}
    assert codes == {"pipe.wav": "file-not-regular", "folder": "file-not-regular", "none.wav": "file-missing"}


def test_facts_and_warnings(tmp_path):
    (tmp_path / "a.jpg").write_bytes(PNG)
    (tmp_path / "a.wav").write_bytes(wav(0.5))
    facts = looked(tmp_path, image="a.jpg", audio="a.wav", text=" hi ")
    assert isinstance(facts, dict)
    assert (facts["image_width"], facts["image_height"], facts["audio_duration_s"]) == (30, 20, 0.5)
    assert facts["warnings"] == ["image: a PNG named .jpg"] and facts["text"] == " hi "
    assert set(facts) < set(schema.SAMPLES.names)
