"""Manifests: every format gives the same rows, at once or one after another."""

import json
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import HEADER, bad, good, read, written

from mmpipe import manifest, params
from mmpipe.errors import InvalidError, NotFoundError, TemporaryError
from mmpipe.row import Row

ROWS = [
    {"id": "a", "image": "a.png", "text": "one, two", "audio": None, "label": "cat"},
    {"id": "b", "image": None, "text": "drei\nvier", "audio": "b.wav", "label": "dog"},
]


def test_defaults_are_those_of_the_parameters():
    assert params.Columns().model_dump() == manifest.COLUMNS


def test_csv_jsonl_and_parquet_agree(tmp_path):
    csv = HEADER + 'a,a.png,"one, two",,cat\r\nb,,"drei\nvier",b.wav,dog\n'
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    paths = [
        written(tmp_path, "m.csv", b"\xef\xbb\xbf" + csv.encode()),
        written(tmp_path, "m.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        tmp_path / "m.parquet",
    ]
    for path in paths:
        rows = read(path)
        assert [(r.row, r.id, r.image, r.text, r.audio, r.target) for r in good(rows)] == [
            (1, "a", "a.png", "one, two", None, "cat"),
            (2, "b", None, "drei\nvier", "b.wav", "dog"),
        ]
        assert rows[0].source == path.as_posix() and rows[0].folder == tmp_path


def test_columns_are_mapped_and_ids_made(tmp_path):
    path = written(tmp_path, "m.csv", "photo,kind,fold\nx.png,1,test\n  ,2,tset\n")
    columns = manifest.COLUMNS | {"image": "photo", "target": "kind", "split": "fold"}
    rows = read(path, columns)
    assert good(rows) == [
        Row(path.as_posix(), 1, tmp_path, f"{path.as_posix()}:1", "x.png", target="1", split="test")
    ]
    assert "did you mean 'test'" in bad(rows)[0][2]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"target": "labels"}, "no column 'labels' for target, did you mean 'label'?"),
        (
            {"image": "Picture", "target": "class"},
            "'Picture' for image, did you mean 'picture'?; no column 'class'",
        ),
        ({"text": None}, "none of the columns 'image', 'audio'"),
    ],
)
def test_missing_columns_are_told_at_once(tmp_path, columns, words):
    path = written(tmp_path, "m.csv", "id,picture,text,label\na,b,c,d\n")
    with pytest.raises(InvalidError) as raised:
        read(path, manifest.COLUMNS | columns)
    assert words in str(raised.value) and raised.value.code == "manifest-columns"


def test_a_column_left_at_its_default_may_be_absent(tmp_path):
    path = written(tmp_path, "m.csv", "text,label\nhello,x\n")
    assert good(read(path))[0].image is None


def test_missing_and_empty_manifests(tmp_path):
    with pytest.raises(NotFoundError, match="manifest-missing"):
        read(tmp_path / "none.csv")
    assert read(written(tmp_path, "m.csv", HEADER)) == []
    assert read(written(tmp_path, "n.csv", "")) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("text\nother\nwords\n"),
        lambda path: path.write_text(path.read_text() + "more\n"),
        lambda path: (
            path.with_suffix(".new").write_text("text\none\ntwo\n") and path.with_suffix(".new").replace(path)
        ),
        lambda path: path.unlink(),
    ],
)
@pytest.mark.parametrize("seen", [0, 1])
def test_a_table_that_changes_between_two_looks_is_told(tmp_path, change, seen):
    path = written(tmp_path, "m.csv", "text\none\ntwo\n")
    rows = manifest.survey(path, {"text": "text"})
    remaining = iter(rows)
    assert [row.text for row in islice(remaining, seen)] == ["one"][:seen]
    change(path)
    with pytest.raises(TemporaryError, match=r"file-changed .*m\.csv changed while it was read") as raised:
        list(remaining)
    assert raised.value.exit_status == 75


def test_earlier_turns_are_json_in_every_format_and_bad_ones_are_bad_rows(tmp_path):
    columns = {**manifest.COLUMNS, "history": "before"}
    cells = ['[["what?", "a circle"]]', "", "[]", "no list"]
    quoted = ['how?,red,"' + cell.replace('"', '""') + '"\n' for cell in cells]
    (tmp_path / "rows.csv").write_text("".join(["text,label,before\n", *quoted]))
    lists = [[["what?", "a circle"]], None, [], "no list"]
    lines = [json.dumps({"text": "how?", "label": "red", "before": one}) for one in lists]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    for name in ("rows.csv", "rows.jsonl"):
        *good, bad = manifest.read(tmp_path / name, columns)
        assert [row.history for row in good] == [cells[0], None, None]
        assert [row.dialogue(row.text) for row in good] == ["Q: what? A: a circle\nQ: how?", "how?", "how?"]
        assert bad.code == "row-malformed" and "has earlier turns that are no JSON: 'no list'" in bad.what
        assert good[0].dialogue("  ") == "  "  # no question, no dialogue
