"""Parquet: types, and files that are small on the disk and large inside."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import good, read

from mmpipe import manifest
from mmpipe.errors import InvalidError
from mmpipe.records import parquet


def test_a_small_parquet_file_that_is_large_inside_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"text": ["a"] * 1_000_001, "label": ["x"] * 1_000_001}), path)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("it was read"))
    assert path.stat().st_size < 20_000
    with pytest.raises(InvalidError, match="manifest-too-large"):
        read(path)
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("not wanted", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as file:
        part = pa.table(
            {"text": ["y" * (1 << 20)] * 60, "label": ["x"] * 60, "not wanted": ["z"] * 60}, schema
        )
        for _ in range(9):
            file.write_table(part)
    with pytest.raises(InvalidError, match=r"manifest-too-large .* has 566,\d+,\d+ bytes in its col"):
        read(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_long_text_that_repeats_is_held_once(tmp_path, kind):
    texts = pa.array(["y" * (1 << 20)] * 50, kind)
    pq.write_table(pa.table({"text": texts, "label": ["x"] * 50}), tmp_path / "m.parquet")
    rows = good(read(tmp_path / "m.parquet"))
    assert len(rows) == 50 and len({id(row.text) for row in rows}) == 1


def test_texts_that_repeat_over_all_batches_are_held_once(tmp_path):
    """Where all rows are held: 5,000 of them are five batches."""
    texts = pa.DictionaryArray.from_arrays(
        [number % 7 for number in range(5_000)], [f"{n}" * 99 for n in range(7)]
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "m.parquet", store_schema=False)
    rows = good(read(tmp_path / "m.parquet", {"text": "text"}))
    assert [row.text for row in rows[:8]] == [f"{n % 7}" * 99 for n in range(8)]
    assert len({id(row.text) for row in rows}) == 7


def test_parquet_types(tmp_path):
    table = pa.table(
        {"text": pa.array(["a", "b", "a"]).dictionary_encode(), "label": [1, None, 3], "x": [[1]] * 3}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    rows = good(read(tmp_path / "m.parquet"))
    assert [(row.text, row.target) for row in rows] == [("a", "1"), ("b", None), ("a", "3")]
    with pytest.raises(InvalidError, match="column 'x' is of type list"):
        read(tmp_path / "m.parquet", manifest.COLUMNS | {"image": "x"})


def test_a_table_without_any_column_that_is_wanted_is_refused(tmp_path):
    pq.write_table(pa.table({"words": ["a", "b"]}), tmp_path / "m.parquet")
    with pytest.raises(InvalidError, match=r"none of the columns 'image', .*; its columns are 'words'"):
        read(tmp_path / "m.parquet", manifest.COLUMNS | {"target": None})


@pytest.mark.parametrize("how", ["once", "as prefixes", "as a dictionary"])
def test_long_texts_of_a_small_file_are_read_a_few_at_a_time(tmp_path, how):
    """300 rows of 1 MB each that the file holds once; a batch has 16 MiB."""
    path, text = tmp_path / "m.parquet", "y" * 1_000_000
    texts = pa.DictionaryArray.from_arrays([0, 1, *[0] * 298], [text, "a"])
    if how == "as prefixes":
        plain, encoding = pa.table({"text": texts.dictionary_decode()}), {"text": "DELTA_BYTE_ARRAY"}
        pq.write_table(plain, path, use_dictionary=False, column_encoding=encoding)
        del plain
    else:
        pq.write_table(pa.table({"text": texts}), path, store_schema=how == "as a dictionary")
    assert path.stat().st_size < 1_100_000
    before, most = pa.total_allocated_bytes(), 0
    for place, row in enumerate(manifest.survey(path, {"text": "text"})):
        most = max(most, pa.total_allocated_bytes())
        assert len(row.text) == (1 if place == 1 else 1_000_000)
    assert most - before < 60_000_000


@pytest.mark.parametrize("dictionary", [True, False])
def test_ordinary_texts_are_read_a_thousand_at_a_time(tmp_path, dictionary):
    """Also where all are in one row group, and more than a page of a dictionary holds."""
    path = tmp_path / "m.parquet"
    texts = [f"{number} " * 60 for number in range(20_000)]
    pq.write_table(pa.table({"text": texts, "n": range(20_000)}), path, use_dictionary=dictionary)
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 1 and metadata.row_group(0).total_byte_size > 4_000_000
    assert parquet._batch_rows(path, pq.read_schema(path), metadata, ["text", "n"]) == parquet.BATCH_ROWS
    assert [row.text for row in manifest.survey(path, {"text": "text"})] == texts


def test_damage_on_the_last_page_is_found_before_the_first_row_is_used(tmp_path):
    path = tmp_path / "m.parquet"
    texts = [f"{number} " * 20 for number in range(5_000)]
    pq.write_table(
        pa.table({"text": texts}),
        path,
        write_page_checksum=True,
        row_group_size=1_000,
        compression="none",
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    place = data.rindex(b"4998 4998")
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidError, match="is no readable Parquet"):
        manifest.survey(path, {"text": "text"})
