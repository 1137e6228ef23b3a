"""Tables of every format: what is no table is refused as a whole, and no pass over one holds it."""

import json
import tracemalloc
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import HEADER, read, written

from mmpipe import manifest
from mmpipe.errors import InvalidError
from mmpipe.records import record


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
        read(written(tmp_path, name, content))
    assert words in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_too_many_rows_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(record, "MAX_ROWS", 3)
    for number in (3, 4):
        rows = [{"text": "a", "label": "x"}] * number
        lines = {".csv": ["text,label", *["a,x"] * number], ".jsonl": list(map(json.dumps, rows))}
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows), path)
        if path.suffix in lines:
            path.write_text("\n".join(lines[path.suffix]) + "\n")
        if number == 3:
            assert len(read(path)) == 3
    with pytest.raises(InvalidError, match=r"manifest-too-large .* more rows than the 3 that are allowed"):
        read(path)


def many(folder, ending, rows):
    """A table of so many short texts, all different; one line of eleven is bad where lines can be."""
    path = folder / f"{rows}.{ending}"
    cells = [{"id": f"row {number}", "text": f"text number {number} " * 10} for number in range(rows)]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(cells), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(c) + ("\n" if n % 11 else ",\n") for n, c in enumerate(cells)))
    else:
        lines = [f"{c['id']},{c['text']}".encode() + b"\xe9" * (n % 11 == 0) for n, c in enumerate(cells)]
        path.write_bytes(b"\n".join([b"id,text", *lines]))
    return path


def peak(look) -> tuple[int, int]:
    """Bytes: the most that Python held, and the most that Arrow held at any row, while all rows were seen."""
    tracemalloc.start()
    try:
        arrow = max(pa.total_allocated_bytes() for _ in look())
        return tracemalloc.get_traced_memory()[1], arrow
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("few", "more"), [(1_500, 10_000), pytest.param(10_000, 200_000, marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_the_rows(tmp_path, ending, few, more):
    """Parquet's are in one row group each, where a page and a batch are what is held."""
    columns = {"id": "id", "text": "text"}
    python, arrow = zip(
        *(peak(partial(manifest.survey, many(tmp_path, ending, rows), columns)) for rows in (few, more)),
        strict=True,
    )
    assert python[1] < 1.3 * python[0] + 50_000 < 1_000_000
    assert arrow[1] < arrow[0] + 12_000_000
    held, _ = peak(partial(manifest.read, many(tmp_path, ending, few), columns))
    assert held > 3 * python[0]
