"""What was answered before an interruption is kept, as far as it is still the answer."""

from functools import partial

import pytest
import tiny_bundle
from watched import texts, watched_by

from mmpipe import paths
from mmpipe import predict_table as module
from mmpipe.errors import TemporaryError
from mmpipe.predict import load
from mmpipe.predict_table import predict_table


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return root, tiny_bundle.write(root)


@pytest.fixture(scope="module")
def predictor(workspace):
    return load(workspace[0] / paths.BUNDLE, device="cpu")


@pytest.fixture
def asked(predictor, monkeypatch):
    """How many rows the model is asked about, a batch each; batches are of 4 rows."""
    monkeypatch.setattr(module, "BATCH_SIZE", 4)
    found, answer = [], predictor.answer
    monkeypatch.setattr(predictor, "answer", lambda features: found.append(len(features)) or answer(features))
    return found


def interrupted_after(rows):
    """Ctrl-C when more than so many rows are done."""
    seen = []

    def interrupt(more):
        seen.append(more)
        if sum(seen) > rows:
            raise KeyboardInterrupt

    return watched_by(interrupt)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_an_interrupted_run_goes_on_where_it_was(workspace, predictor, asked, tmp_path, ending):
    """20 rows, interrupted after the second batch; then one file of the first batch is changed."""
    names = [f"{number}.png" for number in range(20)]
    pictures = sorted((workspace[0] / "raw").glob("*.png"))
    for name, picture in zip(names, pictures, strict=False):
        (tmp_path / name).write_bytes(picture.read_bytes())
    lines = [f"{number},{name}\n" for number, name in enumerate(names)]
    (tmp_path / "rows.csv").write_text("id,image\n" + "".join(lines))
    columns = {"id": "id", "image": "image"}
    call = partial(predict_table, predictor, tmp_path / "rows.csv", columns=columns, workers=1)
    whole = call(tmp_path / f"whole.{ending}")
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path / f"out.{ending}", watch=interrupted_after(8))
    assert not (tmp_path / f"out.{ending}").exists()
    asked.clear()
    (tmp_path / names[1]).write_bytes(pictures[1].read_bytes())  # the same bytes, at another time
    assert call(tmp_path / f"out.{ending}") == whole
    assert asked == [4, 4, 4, 4]  # the first batch, and the three that were not answered yet
    assert (tmp_path / f"out.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("table", "batches"),
    [
        (texts(20), [4, 4, 4]),
        (texts(23), [4, 4, 4, 3]),  # three more at the end
        (texts(20, first="another"), [4, 4, 4, 4]),  # a row of the first batch is another one
        (texts(6), [2]),  # what is left of the second batch
        (texts(20).replace("0,a 0", "new,words\n0,a 0"), [4, 4, 4, 4, 4, 1]),  # all rows move on by one
    ],
)
def test_a_table_that_changed_after_the_interruption(predictor, asked, tmp_path, table, batches):
    """Of five batches two were answered; those that are the same are kept."""
    source, out = tmp_path / "rows.csv", tmp_path / "out.parquet"
    call = partial(predict_table, predictor, source, workers=1)
    source.write_text(texts(20))
    with pytest.raises(KeyboardInterrupt):
        call(out, watch=interrupted_after(8))
    source.write_text(table)
    asked.clear()
    counts = call(out)
    assert asked == batches
    assert call(tmp_path / "whole.parquet") == counts
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_table_that_is_written_to_meanwhile_gives_no_output_and_loses_no_answer(predictor, asked, tmp_path):
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(texts(12))
    out.write_text("of the last time")
    seen = []

    def append(rows):
        seen.append(rows)
        if sum(seen) == 12:
            source.write_text(texts(14))

    with pytest.raises(TemporaryError, match="file-changed"):
        predict_table(predictor, source, out, workers=1, watch=watched_by(append))
    assert out.read_text() == "of the last time"
    asked.clear()
    assert predict_table(predictor, source, out, workers=1).rows == 14
    assert asked == [2]
