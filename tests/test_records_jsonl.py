"""JSONL: one bad line is one bad row, and columns are whatever keys there are."""

import json

import pytest
from manifests import bad, good, read, written

from mmpipe.records import jsonl, table


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
    rows = read(written(tmp_path, "m.jsonl", '{"id": 1, "text": "a", "label": true}\n' + line + "\n"))
    assert (good(rows)[0].id, good(rows)[0].target) == ("1", "true")
    assert len(rows) == 2 and bad(rows)[0][:2] == (2, "row-malformed") and words in bad(rows)[0][2]


@pytest.mark.parametrize("first", [b'{"text": "' + b"x" * (5 << 20), b'{"text": "caf\xe9"}', b"caf\xe9"])
def test_a_bad_first_line_of_json_is_one_bad_row(tmp_path, first):
    rows = read(written(tmp_path, "m.jsonl", first + b'\n{"text": "a", "label": "x"}\n'))
    assert [(row.row, row.text) for row in good(rows)] == [(2, "a")]
    assert [(row, code) for row, code, _ in bad(rows)] == [(1, "row-malformed")]


def test_of_endless_keys_the_wanted_ones_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1_000)
    many = [{f"key {number}": 1} for number in range(5_000)]
    path = written(tmp_path, "m.jsonl", "\n".join(map(json.dumps, [*many, {"text": "a", "label": "x"}])))
    seen = table.Pass(path, {"text", "label"})
    assert sum(1 for _ in seen) == seen.count == 5_001
    assert seen.columns[:2] == ["key 0", "key 1"] and seen.columns[-2:] == ["text", "label"]
    assert len(seen.columns) < 200
    assert read(path)[-1].text == "a"
