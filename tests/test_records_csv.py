"""CSV: one bad line is one bad row, whatever stands before and after it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import HEADER, bad, good, read, written

from mmpipe.errors import InvalidError
from mmpipe.records import lines


def test_bad_csv_lines_are_rows(tmp_path):
    body = [
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
    rows = read(written(tmp_path, "m.csv", HEADER.encode() + b"\n".join(body) + b"\n"))
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


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(['"', ",", "\n", "\r", "a", "\xff", "é"]), max_size=60).map("".join))
def test_any_csv_is_read_to_its_end(tmp_path_factory, body):
    """The last line is whole, so it is found, whatever stands before it."""
    path = Path(tmp_path_factory.mktemp("m")) / "m.csv"
    path.write_bytes(HEADER.encode() + body.encode("latin-1") + b"\nlast,,words,,x\n")
    rows = read(path)
    assert [row.row for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].id == "last" or '"' in body


def test_lines_that_are_one_endless_row_are_bad_rows_and_end(tmp_path, monkeypatch):
    """Each line opens a cell that the next one closes: no cell is long, the row is."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1_000)
    path = written(tmp_path, "m.csv", HEADER + '"\n",' * 400 + "a,,b\nlast,,words,,x\n")
    rows = read(path)
    assert bad(rows)[0] == (1, "row-malformed", "line 2 is no CSV (it is longer than 1,000 characters)")
    assert rows[-1].id == "last"
    with pytest.raises(InvalidError, match=r"h\.csv:1:1 is no CSV \(it is longer than 1,000 characters\)"):
        read(written(tmp_path, "h.csv", '"\n",' * 400 + "\n"))


def test_what_is_said_of_bad_lines_is_forgotten_with_them(tmp_path):
    path = written(tmp_path, "m.csv", HEADER.encode() + b'caf\xe9,"open\n' + b"caf\xe9,,b,,x\n" * 50)
    with path.open("rb") as file:
        at_hand = lines.Lines(path, file)
        for _ in range(20):
            at_hand.begin()
            next(at_hand)
            next(at_hand)
            at_hand.put_back()
            assert len(at_hand.bad) <= 2
    assert [what for _, _, what in bad(read(path))] == [
        "line 2 is no CSV (unexpected end of data)",
        *(f"line {number} is not UTF-8 at byte 4" for number in range(3, 53)),
    ]
