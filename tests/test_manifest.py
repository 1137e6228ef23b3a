"""Manifests: every format gives the same rows; one bad line is one bad row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe import manifest, manifest_records, params
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.manifest import BadRow, Row

HEADER = "id,image,text,audio,label\n"
ROWS = [
    {"id": "a", "image": "a.png", "text": "one, two", "audio": None, "label": "cat"},
    {"id": "b", "image": None, "text": "drei\nvier", "audio": "b.wav", "label": "dog"},
]


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bad(rows):
    return [(row.row, row.code, row.what) for row in rows if isinstance(row, BadRow)]


def good(rows):
    return [row for row in rows if isinstance(row, Row)]


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
        rows = manifest.read(path)
        assert [(r.row, r.id, r.image, r.text, r.audio, r.target) for r in good(rows)] == [
            (1, "a", "a.png", "one, two", None, "cat"),
            (2, "b", None, "drei\nvier", "b.wav", "dog"),
        ]
        assert rows[0].source == path.as_posix() and rows[0].folder == tmp_path


def test_columns_are_mapped_and_ids_made(tmp_path):
    path = written(tmp_path, "m.csv", "photo,kind,fold\nx.png,1,test\n  ,2,tset\n")
    columns = manifest.COLUMNS | {"image": "photo", "target": "kind", "split": "fold"}
    rows = manifest.read(path, columns)
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
        manifest.read(path, manifest.COLUMNS | columns)
    assert words in str(raised.value) and raised.value.code == "manifest-columns"


def test_a_column_left_at_its_default_may_be_absent(tmp_path):
    path = written(tmp_path, "m.csv", "text,label\nhello,x\n")
    assert good(manifest.read(path))[0].image is None


def test_bad_csv_lines_are_rows(tmp_path):
    lines = [
        b"a,,one,,x",
        b"b,,two,,x,",
        b"c,,caf\xe9,,x",
        b'd,,"open,,x',
        b"e,,five,,x",
        b'f,,"shut"bad,,x',
        b"g,,six,,x",
        b"h,," + b"y" * (5 << 20) + b",,x",
        b"i,,eight,,x",
    ]
    rows = manifest.read(written(tmp_path, "m.csv", HEADER.encode() + b"\n".join(lines) + b"\n"))
    assert [row.id for row in good(rows)] == ["a", "e", "g", "i"]
    assert [row for row, _, _ in bad(rows)] == [2, 3, 4, 6, 8]
    words = [
        "line 3 has 6 cells, the header has 5",
        "line 4 is not UTF-8 at byte 7",
        "line 5 is no CSV",
        "line 7",
        "line 9",
    ]
    for (_, code, what), expected in zip(bad(rows), words, strict=True):
        assert code == "row-malformed" and expected in what


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is no JSON at column 2"),
        ('{"text": NaN, "label": "x"}', "holds NaN"),
        ('{"text": 1e999, "label": "x"}', "holds 1e999"),
        ('{"label": "x", "label": "y"}', "the key 'label' twice"),
        ("[1]", "is no JSON object"),
        ('{"label": ' + "[" * 200_000, "nested too deep"),
        ('{"text": ["a"], "label": "x"}', "a list for text"),
        ('{"id": "\\ud800", "text": "a", "label": "x"}', "lone surrogates in its id"),
        ('{"text": "' + "x" * (5 << 20), "longer than"),
    ],
)
def test_bad_json_lines_are_rows(tmp_path, line, words):
    rows = manifest.read(
        written(tmp_path, "m.jsonl", '{"id": 1, "text": "a", "label": true}\n' + line + "\n")
    )
    assert (good(rows)[0].id, good(rows)[0].target) == ("1", "true")
    assert len(rows) == 2 and bad(rows)[0][:2] == (2, "row-malformed") and words in bad(rows)[0][2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.jsonl", HEADER + "a,b,c,d,e\n", "holds no JSON object"),
        ("m.csv", '{"id": 1}\n', "is named .csv but holds JSON"),
        ("m.csv", "id;text;label\n1;a;b\n", "separated by ';'"),
        ("m.csv", "id,id,label\n", "two columns named 'id'"),
        ("m.csv", HEADER.encode("utf-16"), "UTF-16"),
        ("m.csv", HEADER.encode("utf-16-le"), "holds NUL bytes (UTF-16"),
        ("m.jsonl", '{"text": "a"}\n'.encode("utf-16-le"), "holds NUL bytes (UTF-16"),
        ("m.jsonl", '{"text": "a"}\n'.encode("utf-16-be"), "holds NUL bytes (UTF-16"),
        ("m.csv", b"id,text,caf\xe9\n1,a,b\n", "m.csv:1:1 is not UTF-8 at byte 12: this is the header"),
        ("m.csv", b"id," + b"x" * (5 << 20) + b"\n1,a\n", "m.csv:1:1 is longer than"),
        (
            "m.jsonl",
            '{"text": "a", "label": "x"},\n' * 3,
            "m.jsonl:1:28 is no JSON at column 28: a comma after the object — stopped — Fix: correct it",
        ),
        ("m.jsonl", '{"text": "a",}\n' * 3, "m.jsonl:1:14 is no JSON at column 14"),
        ("m.jsonl", '\n{"a": NaN}\n', "m.jsonl:2:1 holds NaN"),
        ("m.jsonl", b"caf\xe9\n", "m.jsonl:1:1 is not UTF-8 at byte 4"),
        ("m.jsonl", "{}\n", "its columns are none"),
        ("m.xlsx", b"PK", "unknown extension '.xlsx'"),
        ("m.parquet", b"PAR1junk", "no readable Parquet"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, name, content, words):
    with pytest.raises(InvalidError) as raised:
        manifest.read(written(tmp_path, name, content))
    assert words in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("first", [b'{"text": "' + b"x" * (5 << 20), b'{"text": "caf\xe9"}', b"caf\xe9"])
def test_a_bad_first_line_of_json_is_one_bad_row(tmp_path, first):
    rows = manifest.read(written(tmp_path, "m.jsonl", first + b'\n{"text": "a", "label": "x"}\n'))
    assert [(row.row, row.text) for row in good(rows)] == [(2, "a")]
    assert [(row, code) for row, code, _ in bad(rows)] == [(1, "row-malformed")]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_too_many_rows_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(manifest_records, "MAX_ROWS", 3)
    for number in (3, 4):
        rows = [{"text": "a", "label": "x"}] * number
        lines = {".csv": ["text,label", *["a,x"] * number], ".jsonl": list(map(json.dumps, rows))}
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows), path)
        if path.suffix in lines:
            path.write_text("\n".join(lines[path.suffix]) + "\n")
        if number == 3:
            assert len(manifest.read(path)) == 3
    with pytest.raises(InvalidError, match=r"manifest-too-large .* more rows than the 3 that are allowed"):
        manifest.read(path)


def test_a_small_parquet_file_that_is_large_inside_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"text": ["a"] * 1_000_001, "label": ["x"] * 1_000_001}), path)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("it was read"))
    assert path.stat().st_size < 20_000
    with pytest.raises(InvalidError, match="manifest-too-large"):
        manifest.read(path)
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("not wanted", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as file:
        part = pa.table(
            {"text": ["y" * (1 << 20)] * 60, "label": ["x"] * 60, "not wanted": ["z"] * 60}, schema
        )
        for _ in range(9):
            file.write_table(part)
    with pytest.raises(InvalidError, match=r"manifest-too-large .* has 566,\d+,\d+ bytes in its col"):
        manifest.read(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_long_text_that_repeats_is_held_once(tmp_path, kind):
    texts = pa.array(["y" * (1 << 20)] * 50, kind)
    pq.write_table(pa.table({"text": texts, "label": ["x"] * 50}), tmp_path / "m.parquet")
    rows = good(manifest.read(tmp_path / "m.parquet"))
    assert len(rows) == 50 and len({id(row.text) for row in rows}) == 1


def test_missing_and_empty_manifests(tmp_path):
    with pytest.raises(NotFoundError, match="manifest-missing"):
        manifest.read(tmp_path / "none.csv")
    assert manifest.read(written(tmp_path, "m.csv", HEADER)) == []
    assert manifest.read(written(tmp_path, "n.csv", "")) == []


def test_parquet_types(tmp_path):
    table = pa.table(
        {"text": pa.array(["a", "b", "a"]).dictionary_encode(), "label": [1, None, 3], "x": [[1]] * 3}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    rows = good(manifest.read(tmp_path / "m.parquet"))
    assert [(row.text, row.target) for row in rows] == [("a", "1"), ("b", None), ("a", "3")]
    with pytest.raises(InvalidError, match="column 'x' is of type list"):
        manifest.read(tmp_path / "m.parquet", manifest.COLUMNS | {"image": "x"})


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
    rows = manifest.read(tmp_path)
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
    rows = manifest.read(folder_of(tmp_path, "cat/1.orig", "cat/1.orig.txt", "cat/1.png", "cat/1.orig.xyz"))
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
    rows = manifest.read(pets)
    assert [row.id for row in good(rows)] == ["cat/1", "cat/2"]
    assert {row.id: row.code for row in rows if isinstance(row, BadRow)} == {
        "cat/all": "file-not-regular",
        "dog": "path-escapes",
        "lion": "file-not-regular",
    }
    assert len({row.row for row in rows}) == len(rows) == 5


def test_a_class_has_one_name_however_it_is_written(tmp_path):
    rows = manifest.read(folder_of(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png"))
    assert {row.target for row in good(rows)} == {"caf\u00e9"}
    assert len(good(rows)) == 2


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(['"', ",", "\n", "\r", "a", "\xff", "é"]), max_size=60).map("".join))
def test_any_csv_is_read_to_its_end(tmp_path_factory, body):
    """The last line is whole, so it is found, whatever stands before it."""
    path = Path(tmp_path_factory.mktemp("m")) / "m.csv"
    path.write_bytes(HEADER.encode() + body.encode("latin-1") + b"\nlast,,words,,x\n")
    rows = manifest.read(path)
    assert [row.row for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].id == "last" or '"' in body
