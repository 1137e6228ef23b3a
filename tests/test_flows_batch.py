"""The flow `predict` without a server: the command in a process of its own, heard as it goes."""

import asyncio
import logging

import pytest
import tiny_bundle

from flows.batch import predict
from mmpipe import paths, progress, tables
from mmpipe.errors import MmpipeError, UsageError


def test_a_table_is_predicted_and_its_rows_are_counted(tmp_path, monkeypatch, caplog):
    tiny_bundle.write(tmp_path)
    (tmp_path / "rows.csv").write_text("text\n" + "a low one\n" * 5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(progress.LINES, "lines")
    with caplog.at_level(logging.INFO, logger="flows"):
        state = asyncio.run(predict.fn("rows.csv", "out.parquet", str(paths.BUNDLE)))
    assert (state.name, state.message) == (
        "Predicted",
        "5 of 5 rows of rows.csv by models/fusion into out.parquet",
    )
    said = [record.getMessage() for record in caplog.records]
    assert "predict | predict 5/5" in said
    assert len(tables.read(tmp_path / "out.parquet")) == 5
    with pytest.raises(MmpipeError, match="ended with 3"):
        asyncio.run(predict.fn("none.csv", "out.parquet", str(paths.BUNDLE)))
    with pytest.raises(UsageError, match="outside of the workspace"):
        asyncio.run(predict.fn("rows.csv", "../out.parquet", str(paths.BUNDLE)))
