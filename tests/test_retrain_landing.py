import json
import os
import threading
import time
from pathlib import Path

import pytest
from retrained import drop

from mmpipe import manifest
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, UsageError
from mmpipe.manifest import COLUMNS
from mmpipe.retrain import landing, overrides
from mmpipe.row import Row

ROWS = [("a", "a dog", "dog"), ("b", "a cat", "cat")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A landing folder beside the current folder, which is a workspace."""
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setattr(landing, "SETTLED_S", 0.0)
    (tmp_path / "landing").mkdir()
    return tmp_path / "landing"


def land(folder, columns=COLUMNS, max_bytes=1000):
    return landing.land(folder, columns, max_bytes=max_bytes)


def landed_rows(columns=COLUMNS):
    tables = sorted(Path("data/raw/landed").glob("*/rows.jsonl"))
    return [row for table in tables for row in manifest.read(table, columns)]


def test_a_table_lands_with_its_files_named_by_content(folder):
    drop(folder, ROWS)
    found = land(folder)
    assert (found.rows, found.known, found.left, found.files) == (2, 0, [], 2)
    assert found.labels == {"cat": 1, "dog": 1}
    rows = landed_rows()
    assert [(row.id, row.text, row.target) for row in rows] == [(i, text, label) for i, text, label in ROWS]
    for row in rows:
        copied = row.folder / row.image
        assert copied.read_bytes() == (folder / f"pictures/{row.id}.png").read_bytes()
        assert copied.stat().st_mode & 0o222 == 0
    assert not Path("data/raw/landed/.partial").exists()


def test_what_landed_is_known_and_only_the_rest_lands(folder):
    drop(folder, ROWS)
    first = land(folder)
    again = land(folder)
    assert (again.rows, again.known, again.manifest) == (0, 2, None)
    drop(folder, [*ROWS, ("c", "a cow", "cow")])
    third = land(folder)
    assert (third.rows, third.known, third.files) == (1, 2, 1)
    assert {Path(one.manifest).parent for one in (first, third)} == set(Path("data/raw/landed").iterdir())
    assert [row.id for row in landed_rows()] in (["a", "b", "c"], ["c", "a", "b"])


def test_the_name_says_the_content_whatever_the_order_and_the_file_names(folder):
    drop(folder, ROWS)
    name = land(folder).manifest
    for path in sorted(Path("data/raw/landed").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    drop(folder, ROWS[::-1], table="other.csv")
    (folder / "new.csv").unlink()
    assert land(folder).manifest == name


def test_changed_content_of_the_same_name_is_another_sample(folder):
    drop(folder, ROWS)
    land(folder)
    (folder / "pictures/a.png").write_bytes(b"another picture")
    assert (land(folder).rows, len(landed_rows())) == (1, 3)


def test_class_folders_land_too(folder):
    for name in ("dog/1", "cat/1"):
        (folder / name).parent.mkdir()
        (folder / f"{name}.png").write_bytes(name.encode())
        (folder / f"{name}.txt").write_text(f"text of {name}")
    assert land(folder).labels == {"cat": 1, "dog": 1}
    assert [(row.id, row.text, row.target) for row in landed_rows()] == [
        ("cat/1", "text of cat/1", "cat"),
        ("dog/1", "text of dog/1", "dog"),
    ]


def test_columns_are_those_of_the_workspace(folder):
    columns = {**dict.fromkeys(COLUMNS), "image": "photo", "text_path": "caption", "target": "kind"}
    (folder / "p.png").write_bytes(b"p")
    (folder / "t.txt").write_text("t")
    (folder / "rows.csv").write_text("photo,caption,kind,more\np.png,t.txt,dog,x\np.png,,dog,x\n")
    assert land(folder, columns).rows == 2
    one, other = sorted(landed_rows(columns), key=lambda row: row.text_path or "")
    assert isinstance(one, Row) and one.text_path is None
    assert (other.folder / other.text_path).read_text() == "t"
    assert (other.folder / other.image).read_bytes() == b"p"


def test_earlier_turns_of_a_dialogue_land_too(folder):
    columns = {**COLUMNS, "history": "before"}
    before = [["what?", "a cat"]]
    (folder / "rows.jsonl").write_text(json.dumps({"text": "how?", "label": "well", "before": before}))
    assert land(folder, columns).rows == 1
    [row] = landed_rows(columns)
    assert json.loads(row.history) == before


def test_a_row_without_an_id_gets_none(folder):
    (folder / "rows.csv").write_text("text,label\nhello,greeting\n")
    land(folder)
    table = next(Path("data/raw/landed").glob("*/rows.jsonl"))
    assert json.loads(table.read_text())["id"] is None


def test_rows_that_cannot_land_stay_and_are_told(folder):
    drop(folder, [*ROWS, ("gone", "x", "y"), ("empty", "x", "y"), ("large", "x", "y"), ("out", "x", "y")])
    (folder / "pictures/gone.png").unlink()
    (folder / "pictures/empty.png").write_bytes(b"")
    (folder / "pictures/large.png").write_bytes(b"x" * 1001)
    (folder / "new.csv").write_text((folder / "new.csv").read_text().replace("pictures/out", "../../etc/out"))
    (folder / "more.csv").write_text("id,text,label\nnothing,,y\n")
    found = land(folder)
    assert found.rows == 2 and len(landed_rows()) == 2
    assert [line.split()[:3] for line in found.left] == [
        ["more.csv:1", "(nothing)", "row-empty"],
        ["new.csv:3", "(gone)", "file-missing"],
        ["new.csv:4", "(empty)", "file-empty"],
        ["new.csv:5", "(large)", "file-too-large"],
        ["new.csv:6", "(out)", "path-escapes"],
    ]


def test_a_file_that_is_being_written_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(landing, "SETTLED_S", 0.5)
    drop(folder, ROWS[:1])
    path = folder / "pictures/a.png"

    def write_on():
        time.sleep(0.2)
        path.write_bytes(b"whole")

    writer = threading.Thread(target=write_on)
    writer.start()
    first = land(folder)
    writer.join()
    assert [line.split()[2] for line in first.left] == ["file-changed"]
    assert land(folder).rows == 1
    [row] = landed_rows()
    assert (row.folder / row.image).read_bytes() == b"whole"


def test_an_old_file_and_one_of_tomorrow_are_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(landing, "SETTLED_S", 30.0)
    drop(folder, ROWS)
    for name, shift in (("a", -100), ("b", 86_400)):
        os.utime(folder / f"pictures/{name}.png", (time.time() + shift,) * 2)
    assert land(folder).rows == 2  # or the test's time is over


def test_no_folder_and_wrong_columns_are_told(folder):
    with pytest.raises(NotFoundError, match=r"landing-missing .*nowhere"):
        land(folder / "nowhere")
    (folder / "rows.csv").write_text("id,txt,label\na,b,c\n")
    with pytest.raises(InvalidError, match="manifest-columns"):
        land(folder)
    assert not Path("data/raw/landed").exists() or not list(Path("data/raw/landed").iterdir())


def test_values_are_set_and_all_else_stays_as_it_was_written(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "# mine\ntrain:\n  lr: 0.1 # high\n  epochs: 7\nsplit: {seed: 3}\n"
        "data:\n  manifests: [data/raw/a.csv]\n"
    )
    names = ["data/raw/a.csv", "data/raw/b.csv"]
    values = {"train.lr": 0.2, "data.manifests": names, "evaluate.bootstrap": 50}
    found = overrides.apply(tmp_path, values)
    assert (found.train.lr, found.train.epochs, found.split.seed) == (0.2, 7, 3)
    assert (found.data.manifests, found.evaluate.bootstrap) == (names, 50)
    text = path.read_text()
    assert text.startswith("# mine\ntrain:\n  lr: 0.2 # high\n  epochs: 7\nsplit: {seed: 3}\n")


def test_the_rendered_file_is_kept_byte_by_byte(tmp_path, repository):
    text = (repository / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    lr = overrides.apply(tmp_path, {}).train.lr
    overrides.apply(tmp_path, {"train.lr": lr})
    assert (tmp_path / "params.yaml").read_text() == text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train.lr": "fast"}, r"train\.lr: .* number, not 'fast'"),
        ({"train.lrr": 1.0}, "did you mean 'lr'"),
        ({"train": 3}, "is a section of lr"),
        ({"train.lr.x": 3}, "'lr' is no section"),
    ],
)
def test_values_that_are_none_are_told(tmp_path, values, words):
    (tmp_path / "params.yaml").write_text("train: {lr: 0.1}\n")
    for attempt in (overrides.check, overrides.apply):
        with pytest.raises(MmpipeError, match=words) as raised:
            attempt(tmp_path, values)
        assert isinstance(raised.value, UsageError) or raised.value.where == str(tmp_path / "params.yaml")
        assert (tmp_path / "params.yaml").read_text() == "train: {lr: 0.1}\n"
