import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmpipe import schema, tables
from mmpipe.errors import InvalidError, NotFoundError, VerificationError

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("value", pa.large_binary())])
ROWS = [{"id": f"{i:05}", "value": bytes([i % 251]) * 500} for i in range(500)]


def test_round_trip(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write_rows(path, ROWS, SCHEMA)
    assert tables.read_rows(path, SCHEMA) == ROWS
    assert tables.read(path, columns=["id"]).column_names == ["id"]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_same_rows_same_bytes_however_chunked(tmp_path, compression):
    whole = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    pieces = pa.concat_tables([whole.slice(i, 7) for i in range(0, len(ROWS), 7)])
    assert pieces.column("id").num_chunks > 1
    for name, table in (("whole", whole), ("pieces", pieces)):
        tables.write(tmp_path / name, table, compression=compression)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_parts_become_one_table_in_groups_of_some_thousand_rows(tmp_path):
    whole = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    parts = [whole.slice(0, 3), *[whole] * 40, whole.slice(0, 0)]
    tables.write_parts(tmp_path / "t", iter(parts), SCHEMA)
    assert tables.read(tmp_path / "t", SCHEMA).equals(pa.concat_tables(parts))
    assert pq.ParquetFile(tmp_path / "t").num_row_groups == 3
    tables.write_parts(tmp_path / "none", iter([]), SCHEMA)
    assert len(tables.read(tmp_path / "none", SCHEMA)) == 0


def test_flipped_bits_are_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write_rows(path, ROWS, SCHEMA)
    good = path.read_bytes()
    noticed = 0
    for at in range(100, len(good) - 1_000, (len(good) - 1_000) // 40):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            same = tables.read_rows(path, SCHEMA) == ROWS
        except (VerificationError, InvalidError):
            noticed += 1
        else:
            assert same, f"byte {at} changed the rows silently"
    assert noticed >= 30


def test_truncated_file_is_damaged(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write_rows(path, ROWS, SCHEMA)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VerificationError, match="is damaged"):
        tables.read(path)


def test_other_schema_and_no_file_are_told(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write_rows(path, ROWS, SCHEMA)
    with pytest.raises(InvalidError, match="other columns"):
        tables.read(path, schema.SPLIT)
    with pytest.raises(NotFoundError, match="dvc repro"):
        tables.read(tmp_path / "none.parquet")
    with pytest.raises(NotFoundError, match="no shards"):
        tables.shards(tmp_path)


def test_shards_come_in_order(tmp_path):
    for i in (1, 0, 2):
        tables.write_rows(tmp_path / f"part-{i:05}.parquet", ROWS[i : i + 1], SCHEMA)
    assert [t.column("id")[0].as_py() for t in tables.read_shards(tmp_path)] == ["00000", "00001", "00002"]


def test_every_table_schema_holds_its_own_rows(tmp_path):
    made = schema.predictions(["a", "b"])
    row = {"id": "x", "prediction": "a", "confidence": 0.5, "modalities": "text", "probabilities": [0.5, 0.5]}
    tables.write_rows(tmp_path / "p.parquet", [row], made)
    read = tables.read(tmp_path / "p.parquet", made)
    assert read.schema.metadata[b"labels"] == b"a\nb"
    assert read.to_pylist()[0]["probabilities"] == [0.5, 0.5]
