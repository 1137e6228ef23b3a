"""Samples → feature tables: same bytes whatever the way, only what changed is computed, failures are rows."""

import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import tiny_weights
import torch

from mmpipe import blueprint, files, schema, tables, weights
from mmpipe.errors import TooManyBadRowsError
from mmpipe.features import embedding, image, text
from mmpipe.features import extract as module
from mmpipe.features.extract import extract
from mmpipe.features.extractor import Extractor, Frozen
from mmpipe.model import width

COUNT = 24
AUDIO = {
    "sample_rate": 16_000,
    "n_fft": 400,
    "hop_length": 160,
    "n_mels": 16,
    "max_duration_s": 1.0,
    "mode": "fast",
}
EXTRACTORS = {
    "image": Extractor("image", {"size": 16, "mode": "fast"}),
    "audio": Extractor("audio", AUDIO),
    "text": Extractor(
        "text",
        {"tokenizer_json": text.fit(["words and words"], vocab_size=300, lowercase=True), "max_tokens": 8},
    ),
}


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def sound(number):
    file = io.BytesIO()
    samples = np.random.default_rng(number).normal(0, 0.1, 800 + 100 * number)
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


def row(number):
    Path("raw").mkdir(exist_ok=True)
    found = {
        "id": f"s{number:03}",
        "source": f"rows.csv:{number}",
        "target": "t",
        "text": f"words of {number}",
        "warnings": [],
    }
    found["text_sha256"] = files.sha256(found["text"].encode())
    for modality, data, suffix in (("image", picture(number), "png"), ("audio", sound(number), "wav")):
        path = Path(f"raw/{number}.{suffix}")
        path.write_bytes(data)
        found |= {f"{modality}_path": str(path), f"{modality}_sha256": files.sha256(data)}
    return found


def table(rows):
    return pa.Table.from_pylist(sorted(rows, key=lambda r: r["id"]), schema=schema.SAMPLES)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [row(number) for number in range(COUNT)]


def run(rows, modality, *, out="out", store="store", workers=1):
    return extract(table(rows), EXTRACTORS[modality], out=Path(out), store=Path(store), workers=workers)


def hashes(out="out"):
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(out).iterdir()}
    assert found
    return found


def features(out="out"):
    return pa.concat_tables(list(tables.read_shards(Path(out))))


@pytest.mark.parametrize("modality", schema.MODALITIES)
def test_the_same_bytes_with_any_workers_and_any_store(rows, modality):
    first = run(rows, modality, out="one", workers=1)
    assert (first.computed, first.failed, first.rows) == (COUNT, 0, COUNT)
    again = run(rows, modality, out="again", workers=2)
    assert again.computed == 0
    clean = run(rows, modality, out="two", store="other", workers=2)
    assert clean.computed == COUNT
    run(rows[5:9], modality, out="x", store="third")
    partly = run(rows, modality, out="three", store="third", workers=2)
    assert partly.computed == COUNT - 4
    assert hashes("one") == hashes("again") == hashes("two") == hashes("three")


def test_the_table_holds_what_the_extractor_makes(rows):
    run(rows, "audio")
    made = features()
    assert made.schema.equals(schema.feature(pa.large_binary()))
    assert made["id"].to_pylist() == [f"s{n:03}" for n in range(COUNT)]
    metadata = made.schema.metadata
    assert (metadata[b"dtype"], metadata[b"shape"], metadata[b"sample_rate"]) == (
        b"float16",
        b"[-1, 16]",
        b"16000",
    )
    first = np.frombuffer(made["value"][0].as_py(), np.float16).reshape(-1, 16)
    assert first.shape == (1 + 800 // 160, 16)
    run(rows, "image")
    assert features().schema.field("value").type == pa.binary(16 * 16 * 3)


def test_only_new_and_changed_samples_are_computed(rows):
    run(rows, "image")
    changed = [*rows[:3], {**row(100), "id": "s003"}, *rows[4:], row(101)]
    assert run(changed, "image").computed == 2
    incremental = hashes()
    run(changed, "image", store="empty")
    assert incremental == hashes()


def test_equal_content_is_computed_once_and_counted_as_rows(rows):
    twin = {**rows[0], "id": "twin"}
    counts = run([*rows, twin], "image")
    assert (counts.computed, counts.rows) == (COUNT + 1, COUNT + 1)
    values = features()["value"]
    assert values[0].as_py() == values[COUNT].as_py()


def test_other_settings_are_another_store(rows):
    run(rows, "image")
    other = Extractor("image", {"size": 17, "mode": "fast"})
    assert extract(table(rows), other, out=Path("o"), store=Path("store"), workers=1).computed == COUNT
    assert run(rows, "image").computed == 0


def frozen(name):
    """An extractor of vectors, by small weights in the workspace's folder of this name."""
    tiny_weights.lite(Path(name))
    found = weights.find(name)
    made = width.measured(blueprint.of("image", found), source=name, side=16)
    return Extractor("image", EXTRACTORS["image"].settings, Frozen(found.source, found.sha256, made))


@pytest.fixture
def one_thread():
    """As in the workers: the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_vectors_of_a_frozen_backbone_are_a_feature_like_any_other(rows):
    def run(some, *, out, store="store", workers=1):
        return extract(table(some), extractor, out=Path(out), store=Path(store), workers=workers)

    extractor = frozen("weights")
    assert run(rows, out="one", workers=2).computed == COUNT
    assert run(rows, out="again").computed == 0
    assert run(rows[5:9], out="x", store="other").computed == 4
    assert run(rows, out="two", store="other").computed == COUNT - 4
    assert hashes("one") == hashes("again") == hashes("two")
    made = features("one")
    assert made.schema.field("value").type == pa.binary(4 * 1280)
    facts = {
        key.decode(): json.loads(value) for key, value in made.schema.metadata.items() if key != b"dtype"
    }
    assert facts["shape"] == [1280] and facts["base"] == {"dtype": "uint8", "shape": [16, 16, 3]}
    assert facts["weights_sha256"] == extractor.frozen.sha256 and facts["blueprint"]["width"] == 1280
    pixels = [image.extract(picture(number), size=16, mode="fast") for number in range(COUNT)]
    frozen_net = embedding.backbone(extractor.frozen.blueprint, "weights", extractor.frozen.sha256)
    want = embedding.vectors(frozen_net, pixels)
    assert np.array_equal([np.frombuffer(value, np.float32) for value in made["value"].to_pylist()], want)


def test_a_frozen_backbone_of_other_weights_is_another_store_and_a_bad_sample_a_row(rows):
    extractor = frozen("weights")
    other = replace(extractor, frozen=replace(extractor.frozen, sha256="0" * 64))
    prints = [module._fingerprint(one) for one in (extractor, other, EXTRACTORS["image"])]
    assert len(set(prints)) == 3
    Path(rows[1]["image_path"]).write_bytes(picture(999))
    counts = extract(table(rows[:3]), extractor, out=Path("out"), store=Path("store"), workers=1)
    assert (counts.failed, counts.computed) == (1, 3)
    made = features()
    assert [value is None for value in made["value"].to_pylist()] == [False, True, False]
    assert made["error"][1].as_py() == "file-changed 'raw/1.png' has changed since it was ingested"


@pytest.mark.parametrize("changed", [{"kind": "stft"}, {"kind": "mfcc", "n_mfcc": 8}, {"mode": "exact"}])
def test_another_kind_of_spectrogram_is_another_store(rows, changed):
    run(rows, "audio")
    other = Extractor("audio", {**AUDIO, **changed})
    assert extract(table(rows), other, out=Path("o"), store=Path("store"), workers=1).computed == COUNT
    assert features("o").schema.metadata[b"kind"].decode() == changed.get("kind", "log_mel")
    assert run(rows, "audio").computed == 0


def test_a_missing_modality_is_no_row_and_none_at_all_is_an_empty_table(rows):
    for some in rows[::2]:
        some["image_path"] = some["image_sha256"] = None
    assert run(rows, "image").rows == COUNT // 2
    assert len(features()) == COUNT // 2
    for some in rows:
        some["image_path"] = some["image_sha256"] = None
    counts = run(rows, "image")
    assert counts.rows == 0
    counts.check()
    assert len(features()) == 0
    assert b"shape" in features().schema.metadata


def test_a_file_that_changed_or_went_is_a_row_with_an_error(rows):
    Path(rows[2]["image_path"]).write_bytes(picture(999))
    Path(rows[5]["image_path"]).unlink()
    counts = run(rows, "image")
    assert (counts.failed, counts.computed) == (2, COUNT)
    errors = features()["error"].to_pylist()
    assert errors[2] == "file-changed 'raw/2.png' has changed since it was ingested"
    assert errors[5].startswith("file-missing ")
    assert features()["value"].null_count == 2
    assert counts.failures[0].startswith("file-changed rows.csv:2 (s002) 'raw/2.png' has changed")
    assert "Fix: " in counts.failures[0]
    assert f"rows in {COUNT} = ok {COUNT - 2} + failed 2; computed {COUNT}, from store 0" in str(counts)
    with pytest.raises(TooManyBadRowsError, match="2 of 24 rows"):
        counts.check()
    Path(rows[2]["image_path"]).write_bytes(picture(2))
    again = run(rows, "image")
    assert (again.failed, again.computed) == (1, 2)  # the two that failed are tried again


def test_a_damaged_store_is_computed_again_and_said(rows):
    run(rows, "image", workers=2)
    want = hashes()
    parts = sorted(Path("store").rglob("part-*.parquet"))
    for path in parts[:4]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    counts = run(rows, "image")
    assert 0 < counts.computed < COUNT
    assert counts.damaged_parts == 4
    assert "(4 damaged parts removed from it)" in str(counts)
    assert hashes() == want


def test_shards_are_bounded_and_read_in_order(rows, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 5 * 16 * 16 * 3)
    run(rows, "image")
    sizes = [len(shard) for shard in tables.read_shards(Path("out"))]
    assert sizes == [5, 5, 5, 5, 4]
    assert features()["id"].to_pylist() == [f"s{n:03}" for n in range(COUNT)]


def test_what_an_earlier_run_left_is_replaced(rows):
    for folder in ("out", ".out.partial"):
        Path(folder).mkdir()
        Path(folder, "part-00009.parquet").write_text("old")
    run(rows, "text")
    assert list(hashes()) == ["part-00000.parquet"]
    assert not Path(".out.partial").exists()


def test_the_store_may_go_at_any_time(rows):
    run(rows, "text")
    want = hashes()
    shutil.rmtree("store")
    assert run(rows, "text").computed == COUNT
    assert hashes() == want
