"""Ingest: rows are conserved and judged against one another, and the workers do not matter."""

import zlib

import pytest
from rows import PNG, row

from mmpipe import ingest, schema, tables
from mmpipe.errors import InvalidError, TooManyBadRowsError
from mmpipe.inspection import Limits
from mmpipe.row import BadRow


def judged(rows):
    return ingest.ingest(rows, limits=Limits(), timeout_s=30, workers=1)


def test_rows_are_conserved_and_judged_against_each_other(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    rows = [
        row(tmp_path, 1, text="one"),
        row(tmp_path, 2, text="one"),
        row(tmp_path, 3, text="two", target="x"),
        row(tmp_path, 4, text="two", target="y"),
        row(tmp_path, 5, id="r1", text="five"),
        row(tmp_path, 6),
        row(tmp_path, 7, text="seven", target=None),
        BadRow("m.csv", 8, "m.csv:8", "row-malformed", "line 9 is no CSV"),
        row(tmp_path, 9, image="a.png"),
        row(tmp_path, 10, image="none.png"),
    ]
    found = judged(rows)
    assert [sample["id"] for sample in found.samples] == ["r1", "r9"]
    assert {r["row"]: r["code"] for r in found.quarantine} == {
        2: "row-duplicate",
        3: "row-conflict",
        4: "row-conflict",
        5: "row-duplicate-id",
        6: "row-empty",
        7: "row-no-target",
        8: "row-malformed",
        10: "file-missing",
    }
    messages = {r["row"]: r["message"] for r in found.quarantine}
    assert "m.csv:4 (r4, 'y')" in messages[3] and "m.csv:3 (r3, 'x')" in messages[4]
    assert "m.csv:1" in messages[5] and "m.csv:1" in messages[2]
    counts = found.counts
    assert (
        counts["rows_in"] == 10 == counts["rows_ok"] + counts["rows_quarantined"] + counts["rows_duplicates"]
    )
    assert ingest.summary(counts).startswith("10 rows in = 2 ok + 7 quarantined + 1 duplicates")


@pytest.mark.parametrize("cells", [{"text": "one"}, {"image": "a.png"}, {"image": "a.png", "text": "one"}])
def test_copies_on_two_sides_of_a_declared_split_are_a_leak(tmp_path, cells):
    (tmp_path / "a.png").write_bytes(PNG)
    alone = [row(tmp_path, n, text=f"other {n}", split="train") for n in (4, 5)]
    rows = [row(tmp_path, n, split=split, **cells) for n, split in enumerate(("train", "train", "test"), 1)]
    with pytest.raises(InvalidError, match=r"split-leak .* 1 contents .*: r3 \(test\) and r1 \(train\)"):
        judged(rows + alone)
    found = judged(rows[:2] + alone)
    assert [sample["id"] for sample in found.samples] == ["r1", "r4", "r5"]
    assert [r["code"] for r in found.quarantine] == ["row-duplicate"]


def test_limits_on_bad_rows(tmp_path):
    counts = judged([row(tmp_path, 1, text="one"), row(tmp_path, 2)]).counts
    ingest.check(counts, max_bad_fraction=0.5)
    with pytest.raises(TooManyBadRowsError, match="1 of 2 rows are bad"):
        ingest.check(counts, max_bad_fraction=0.49)
    with pytest.raises(InvalidError, match="manifest-empty"):
        ingest.check(judged([row(tmp_path, 1)]).counts, max_bad_fraction=1)
    with pytest.raises(InvalidError, match="manifest-empty"):
        judged([])


def test_tables_do_not_depend_on_the_number_of_workers(tmp_path):
    rows = []
    for number in range(1, 150):
        data = PNG + zlib.compress(bytes([number])) if number % 7 else b"junk"
        (tmp_path / f"{number}.png").write_bytes(data)
        rows.append(
            row(tmp_path, number, id=f"r{number * 37 % 1000}", image=f"{number}.png", text=f"t{number}")
        )
    written = []
    for workers in (1, 3):
        found = ingest.ingest(rows, limits=Limits(), timeout_s=30, workers=workers)
        tables.write_rows(tmp_path / "s.parquet", found.samples, schema.SAMPLES)
        tables.write_rows(tmp_path / "q.parquet", found.quarantine, schema.QUARANTINE)
        written.append((tmp_path / "s.parquet").read_bytes() + (tmp_path / "q.parquet").read_bytes())
    assert len(found.quarantine) == 21 and len(found.samples) == 128
    assert written[0] == written[1]
