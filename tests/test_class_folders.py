"""Class folders: files of one name are one sample, and every other file is a row that says why not."""

from manifests import bad, good, read

from mmpipe.row import BadRow


def test_class_folders(tmp_path):
    for name in (
        "cat/1.png",
        "cat/1.txt",
        "cat/sub/2.JPG",
        "dog/1.wav",
        "dog/1.ogg",
        "dog/notes.xyz",
        "top.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    rows = read(tmp_path)
    assert [(r.id, r.target, r.image, r.text_path) for r in good(rows)] == [
        ("cat/1", "cat", "cat/1.png", "cat/1.txt"),
        ("cat/sub/2", "cat", "cat/sub/2.JPG", None),
    ]
    assert [code for _, code, _ in bad(rows)] == ["row-ambiguous", "file-unknown", "row-no-target"]
    assert len({row.row for row in rows}) == len(rows)


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_file_of_no_modality_takes_no_samples_place(tmp_path):
    rows = read(folder_of(tmp_path, "cat/1.orig", "cat/1.orig.txt", "cat/1.png", "cat/1.orig.xyz"))
    assert [(row.id, row.text_path, row.image) for row in good(rows)] == [
        ("cat/1.orig", "cat/1.orig.txt", None),
        ("cat/1", None, "cat/1.png"),
    ]
    assert [(row.id, row.code) for row in rows if isinstance(row, BadRow)] == [
        ("cat/1.orig", "file-unknown"),
        ("cat/1.orig.xyz", "file-unknown"),
    ]
    assert sorted(row.row for row in rows) == [1, 2, 3, 4]


def test_links_to_folders_are_rows_and_not_followed(tmp_path):
    pets = folder_of(tmp_path / "pets", "cat/1.png", ".hidden/2.png")
    folder_of(tmp_path / "elsewhere", "3.png")
    (pets / "dog").symlink_to(tmp_path / "elsewhere")
    (pets / "lion").symlink_to("cat")
    (pets / "cat" / "all").symlink_to(pets)
    (pets / ".git").symlink_to(tmp_path)
    (pets / "cat" / "2.png").symlink_to("1.png")
    rows = read(pets)
    assert [row.id for row in good(rows)] == ["cat/1", "cat/2"]
    assert {row.id: row.code for row in rows if isinstance(row, BadRow)} == {
        "cat/all": "file-not-regular",
        "dog": "path-escapes",
        "lion": "file-not-regular",
    }
    assert len({row.row for row in rows}) == len(rows) == 5


def test_a_class_has_one_name_however_it_is_written(tmp_path):
    rows = read(folder_of(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png"))
    assert {row.target for row in good(rows)} == {"caf\u00e9"}
    assert len(good(rows)) == 2
