"""Every row is answered, in order, whatever its files do; nothing that is read is overwritten."""

import copy
import csv
import io
import json
import re
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_bundle
from perilous import Perilous
from tiny_bundle import LABELS
from watched import texts, watched_by

from mmpipe import executors, paths, preprocess
from mmpipe import manifest as manifests
from mmpipe import predict_table as module
from mmpipe.commands.predict import predict
from mmpipe.errors import InvalidError, UsageError
from mmpipe.predict import Refusal, Sample, load
from mmpipe.predict_table import predict_table
from mmpipe.records import record
from mmpipe.tasks.classify import TASK
from mmpipe.tasks.task import Decoding


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return root, tiny_bundle.write(root)


@pytest.fixture(scope="module")
def predictor(workspace):
    return load(workspace[0] / paths.BUNDLE, device="cpu")


@pytest.fixture(scope="module")
def manifest(workspace):
    """Good rows, and one of each kind of bad row."""
    root, samples = workspace
    (root / "raw" / "words.txt").write_text("high and thin")
    lines = [["id", "image", "text", "audio", "text_path"]]
    for name, sample in list(samples.items())[:5]:
        files = [sample[m].name if m in sample else "" for m in ("image", "audio")]
        lines.append([name, files[0], sample.get("text", ""), files[1], ""])
    lines += [
        ["out", "../../etc/passwd", "", "", ""],
        ["none", "", "", "", ""],
        ["gone", "gone.png", "", "", ""],
    ]
    lines.append(["file", "", "", "", "words.txt"])
    with (root / "raw" / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root / "raw" / "rows.csv"


SHAPE = module.Shape(TASK.fields(Decoding(LABELS)), LABELS)
COLUMNS = {
    "id": "id",
    "image": "image",
    "text": "text",
    "audio": "audio",
    "text_path": "text_path",
    "target": None,
}


def test_a_table_keeps_every_row(manifest, predictor, workspace, tmp_path):
    counts = predict_table(predictor, manifest, tmp_path / "out.parquet", columns=COLUMNS)
    assert (counts.rows, counts.predicted) == (9, 6)
    assert counts.refused == {"file-missing": 1, "path-escapes": 1, "row-empty": 1}
    table = pq.read_table(tmp_path / "out.parquet")
    assert json.loads(table.schema.metadata[b"labels"]) == LABELS
    rows = {row["id"]: row for row in table.to_pylist()}
    assert list(rows) == [*list(workspace[1])[:5], "out", "none", "gone", "file"]
    for name, sample in list(workspace[1].items())[:5]:
        one = predictor.predict(**sample)
        assert rows[name]["prediction"] == one.label
        assert rows[name]["probabilities"] == pytest.approx(list(one.probabilities.values()), abs=1e-5)
        assert rows[name]["code"] is None
    assert rows["file"]["modalities"] == "text"
    assert rows["file"]["confidence"] == pytest.approx(
        predictor.predict(text="high and thin").confidence, abs=1e-5
    )
    assert rows["out"]["prediction"] is None and "leaves the data folder" in rows["out"]["message"]


def test_the_three_formats_say_the_same(manifest, predictor, tmp_path):
    seen, totals = [], []
    for ending in ("parquet", "jsonl", "csv"):
        out = tmp_path / f"out.{ending}"
        predict_table(predictor, manifest, out, columns=COLUMNS, watch=watched_by(seen.append, totals))
    assert sum(seen) == 27 and len(seen) > 3 and totals == [9, 9, 9]
    parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    jsonl = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with (tmp_path / "out.csv").open() as file:
        sheet = list(csv.DictReader(file))
    assert len(parquet) == len(jsonl) == len(sheet) == 9
    for one, two, three in zip(parquet, jsonl, sheet, strict=True):
        assert one["id"] == two["id"] == three["id"]
        assert one["prediction"] == two.get("prediction") == (three["prediction"].lstrip("'") or None)
        assert one["code"] == two.get("code") == (three["code"] or None)
        if one["probabilities"]:
            assert list(two["probabilities"].values()) == one["probabilities"]
            assert np.allclose([float(three[f"probability {name}"]) for name in LABELS], one["probabilities"])


def test_another_ending_is_a_usage_error(manifest, predictor, tmp_path):
    with pytest.raises(UsageError, match=r"\.parquet, \.jsonl, \.csv"):
        predict_table(predictor, manifest, tmp_path / "out.xlsx")


def exact(answer):
    """A prediction as the table has it."""
    return np.array(list(answer.probabilities.values()), np.float32).tolist()


def test_workers_change_no_bit(manifest, workspace, predictor, tmp_path):
    rows = list(enumerate(manifests.read(manifest, COLUMNS)))
    function = partial(preprocess.of_rows, preprocessor=predictor.preprocessor)
    (done,) = executors.run(function, [rows], workers=1, timeout_s=30)
    for (_, row), found in zip(rows, done.result, strict=True):
        own = predictor.preprocessor.of_row(row)
        if isinstance(own, Refusal):
            assert found == own
        else:
            assert found.keys() == own.keys()
            assert all(np.array_equal(found[m], own[m]) and found[m].dtype == own[m].dtype for m in own)
    for workers in (1, 3):
        predict_table(predictor, manifest, tmp_path / f"{workers}.parquet", columns=COLUMNS, workers=workers)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()
    table = pq.read_table(tmp_path / "1.parquet").to_pylist()
    samples = [Sample(**sample) for sample in list(workspace[1].values())[:5]]
    answers = [*predictor.predict_many([*samples, Sample(text="high and thin")])]
    assert [row["probabilities"] for row in table if row["code"] is None] == [exact(a) for a in answers]


def test_rows_keep_their_order_over_many_batches(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 4)
    lines = [f"r{n},{'a low one' if n % 3 else ' '}\n" for n in range(15)]
    (tmp_path / "rows.csv").write_text("id,text\n" + "".join(lines))
    counts = predict_table(predictor, tmp_path / "rows.csv", tmp_path / "out.jsonl", workers=2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"r{n}" for n in range(15)]
    assert ["prediction" in row for row in rows] == [n % 3 > 0 for n in range(15)]
    assert (counts.rows, counts.predicted, counts.refused) == (15, 10, {"row-empty": 5})


def test_a_decoder_that_ends_or_hangs_costs_its_row_alone(predictor, tmp_path):
    perilous = copy.copy(predictor)
    perilous.preprocessor = Perilous(predictor.preprocessor.settings, predictor.preprocessor.tokenizer)
    words = ["one", "crash", "two", "hang", "one"]
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"{word}\n" for word in words))
    counts = predict_table(
        perilous, tmp_path / "rows.csv", tmp_path / "out.parquet", workers=2, timeout_s=1.0
    )
    assert counts.refused == {"worker-died": 1, "worker-timeout": 1}
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["code"] for row in rows] == [None, "worker-died", None, "worker-timeout", None]
    assert "SIGSEGV" in rows[1]["message"] and "longer than 1 s" in rows[3]["message"]
    assert rows[0]["probabilities"] == rows[4]["probabilities"]


def parts(count, then):
    """`count` tables of 250 rows; then `then` is called."""
    row = {"prediction": "voice", "confidence": 0.5, "modalities": "text", "probabilities": [0.2, 0.3, 0.5]}
    for part in range(count):
        rows = [{"id": f"{part}-{n}", **row} for n in range(250)]
        yield pa.Table.from_pylist(rows, module._schema(SHAPE))
    then()


@pytest.mark.parametrize("ending", module.WRITERS)
def test_what_is_predicted_goes_to_the_disk_at_once_and_appears_at_the_end(tmp_path, ending):
    out = tmp_path / f"out{ending}"
    out.write_text("old")

    def look():
        [temporary] = [path for path in tmp_path.iterdir() if path != out]
        assert temporary.stat().st_size > 10_000
        assert out.read_text() == "old"

    module.WRITERS[ending](out, parts(70, look), SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    if ending == ".parquet":
        assert pq.ParquetFile(out).num_row_groups == 3
        assert len(pq.read_table(out)) == 70 * 250
    else:
        assert len(out.read_text().splitlines()) == 70 * 250 + (ending == ".csv")


@pytest.mark.parametrize("ending", module.WRITERS)
def test_a_run_that_breaks_off_leaves_the_old_output(tmp_path, ending):
    (tmp_path / f"out{ending}").write_text("old")

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.WRITERS[ending](tmp_path / f"out{ending}", parts(40, fail), SHAPE)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {f"out{ending}": "old"}


def test_what_is_read_is_not_written(workspace, predictor, tmp_path):
    (tmp_path / "rows.csv").write_text("text,words\nx,\n,words.csv\n")
    (tmp_path / "words.csv").write_text("some words")
    (tmp_path / "link.csv").symlink_to("rows.csv")
    (tmp_path / "classes/one").mkdir(parents=True)
    (tmp_path / "classes/one/a.txt").write_text("x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    columns = {"text": "text", "text_path": "words"}
    for source, output, words in (
        ("rows.csv", "rows.csv", "is the table itself"),
        ("rows.csv", "link.csv", "is the table itself"),
        ("rows.csv", "words.csv", "is a file of a sample"),
        ("classes", "classes/one/a.csv", "lies in .*classes"),
    ):
        with pytest.raises(UsageError, match=f"{output} {words}"):
            predict_table(predictor, tmp_path / source, tmp_path / output, columns=columns)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "out.csv").write_text("of the last time")
    assert predict_table(predictor, tmp_path / "rows.csv", tmp_path / "out.csv", columns=columns).rows == 2


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self):
        return True


def test_a_person_sees_how_far_it_is(workspace, manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", seen := Terminal())
    out = tmp_path / "out.csv"
    predict(table=manifest, output=out, model=workspace[0] / paths.BUNDLE, column=["text_path=text_path"])
    assert re.search(r"predict .*9/9", seen.getvalue())
    assert capsys.readouterr().out.startswith("9 rows = 6 predicted + 3 refused (1 file-missing, ")


def test_what_is_wrong_with_the_table_is_known_before_anything_is_answered(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "answer", lambda features: pytest.fail("it was answered"))
    monkeypatch.setattr(record, "MAX_ROWS", 300)
    good = json.dumps({"text": "a"}) + "\n"
    for name, content, code in (
        ("many.csv", texts(301), "manifest-too-large"),
        ("many.jsonl", good * 301, "manifest-too-large"),
        ("columns.csv", "id;text\n1;a\n", "manifest-columns"),
        ("bad.jsonl", '{"text": "a",}\n' * 290, "manifest-format"),
        ("late.jsonl", '{"id": "a"}\n' * 300, "manifest-columns"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidError, match=code):
            predict_table(predictor, tmp_path / name, tmp_path / "out.parquet", workers=1)
        (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())
