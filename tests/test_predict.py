"""A raw sample through predict gives what evaluate gives; a bad one gives its code."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_bundle
from tiny_bundle import LABELS

from mmpipe import evaluate, metrics, paths, schema
from mmpipe.errors import InvalidError, UsageError, VerificationError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.predict import Prediction, Refusal, Sample, load
from mmpipe.predict_table import predict_table

FULL = "audio+image+text"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return root, tiny_bundle.write(root)


@pytest.fixture(scope="module")
def predictor(workspace, tmp_path_factory):
    """From a copy of the bundle that lies alone."""
    alone = tmp_path_factory.mktemp("alone") / "bundle"
    shutil.copytree(workspace[0] / paths.BUNDLE, alone)
    return load(alone, device="cpu")


def complete(samples):
    return next(sample for sample in samples.values() if len(sample) == 3)


def test_same_logits_as_evaluate(workspace, predictor):
    root, samples = workspace
    features = {m: root / paths.features(m) for m in schema.MODALITIES}
    bundle = load_bundle(root / paths.BUNDLE)
    scores = evaluate.score(bundle, features, root / paths.SPLITS, "test", batch_size=256)
    raw = [Sample(**samples[name]) for name in scores.ids]
    extracted = [predictor.features(sample) for sample in raw]
    assert predictor.logits(extracted) == pytest.approx(scores.logits[FULL], abs=1e-5)
    calibrated = metrics.softmax(scores.logits[FULL], bundle.temperature)
    answers = list(predictor.predict_many(raw, batch_size=3))
    for answer, chances, name in zip(answers, calibrated, scores.ids, strict=True):
        assert list(answer.probabilities.values()) == pytest.approx(chances, abs=1e-5)
        assert list(answer.probabilities) == LABELS
        assert answer.modalities == tuple(sorted(samples[name]))
        assert answer.confidence == answer.probabilities[answer.label] == max(answer.probabilities.values())
        assert (answer.model, answer.bundle_sha256) == ("bundle", bundle.digest)


def test_bytes_and_files_are_the_same(workspace, predictor):
    sample = complete(workspace[1])
    data = {m: sample[m].read_bytes() for m in ("image", "audio")}
    assert predictor.predict(**sample) == predictor.predict(text=sample["text"], **data)


def test_a_model_is_called_by_its_tag_or_its_folder(workspace, monkeypatch):
    monkeypatch.chdir(workspace[0] / paths.BUNDLE)
    assert load(".").predict(text="one").model == "fusion"
    assert load(".", name="fusion@v1.2.0").predict(text="one").model == "fusion@v1.2.0"


def test_any_subset_is_taken(workspace, predictor):
    sample = complete(workspace[1])
    found = {}
    for m in schema.MODALITIES:
        found[m] = predictor.predict(**{m: sample[m]})
        assert found[m].modalities == (m,)
        assert sum(found[m].probabilities.values()) == pytest.approx(1)
    assert len({one.confidence for one in found.values()}) == 3


def test_nothing_given_is_a_usage_error(predictor):
    with pytest.raises(UsageError, match="nothing"):
        predictor.predict()


def test_a_bad_sample_is_refused_with_its_code(workspace, predictor, tmp_path):
    (tmp_path / "no.png").write_bytes(b"<html></html>")
    good = complete(workspace[1])
    bad = [
        (Sample(image=tmp_path / "no.png", text="x"), "image-not"),
        (Sample(image=tmp_path / "none.png"), "file-missing"),
        (Sample(audio=b"RIFF"), "audio-format"),
        (Sample(text="a\0b"), "text-control"),
        (Sample(text="  \n"), "row-empty"),
        (Sample(), "row-empty"),
    ]
    mixed = [Sample(**good), *(sample for sample, _ in bad), Sample(**good)]
    first, *refused, last = predictor.predict_many(mixed)
    assert isinstance(first, Prediction) and isinstance(last, Prediction)
    assert [one.code for one in refused if isinstance(one, Refusal)] == [code for _, code in bad]
    with pytest.raises(InvalidError, match="image-not"):
        predictor.predict(image=tmp_path / "no.png")


def test_all_bad_is_answered_too(predictor):
    assert [one.code for one in predictor.predict_many([Sample(), Sample()])] == ["row-empty"] * 2
    assert list(predictor.predict_many([])) == []


def test_a_model_of_one_modality_says_what_it_takes(tmp_path):
    samples = tiny_bundle.write(tmp_path, modalities=["text"])
    predictor = load(tmp_path / paths.BUNDLE, device="cpu")
    picture = complete(samples)["image"]
    with pytest.raises(UsageError, match="got image, the model takes text"):
        predictor.predict(image=picture)
    assert predictor.predict(image=picture, text="one").modalities == ("text",)


def test_a_changed_bundle_is_refused(workspace, tmp_path):
    shutil.copytree(workspace[0] / paths.BUNDLE, tmp_path / "bundle")
    path = tmp_path / "bundle" / "config.json"
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(VerificationError):
        load(tmp_path / "bundle")


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
        assert rows[name]["model"] == "bundle"
        assert rows[name]["bundle_sha256"] == predictor.bundle.digest
    assert rows["file"]["modalities"] == "text"
    assert rows["file"]["confidence"] == pytest.approx(
        predictor.predict(text="high and thin").confidence, abs=1e-5
    )
    assert rows["out"]["prediction"] is None and "leaves the data folder" in rows["out"]["message"]


def test_the_three_formats_say_the_same(manifest, predictor, tmp_path):
    seen = []
    for ending in ("parquet", "jsonl", "csv"):
        predict_table(predictor, manifest, tmp_path / f"out.{ending}", columns=COLUMNS, advance=seen.append)
    assert seen == [9, 9, 9]
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
