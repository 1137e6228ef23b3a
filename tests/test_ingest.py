"""Ingest: rows are conserved, every bad file is a row with its code, and the workers do not matter."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from mmpipe import ingest, params, paths, schema, snapshot, tables
from mmpipe.errors import InvalidError, TemporaryError, TooManyBadRowsError
from mmpipe.features import extractor
from mmpipe.features.extract import extract
from mmpipe.inspection import Facts, Fault, Limits, inspect
from mmpipe.media import image
from mmpipe.row import BadRow, Row
from mmpipe.stages import extract as extract_stage
from mmpipe.stages import ingest as stage

PNG = image.encode(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8), ".png")
JPEG = image.encode(np.random.default_rng(1).integers(0, 256, (200, 300, 3)).astype(np.uint8), ".jpg")
BOMB = PNG[:16] + struct.pack(">II", 20_000, 20_000) + PNG[24:]


def wav(seconds=0.2):
    buffer = io.BytesIO()
    soundfile.write(
        buffer, 0.1 * np.sin(np.arange(int(8_000 * seconds))), 8_000, format="WAV", subtype="PCM_16"
    )
    return buffer.getvalue()


def row(folder, number=1, **cells):
    return Row("m.csv", number, folder, **({"id": f"r{number}", "target": "x"} | cells))


def looked(folder, **cells) -> Facts | Fault:
    return inspect(row(folder, **cells), Limits())


def judged(rows):
    return ingest.ingest(rows, limits=Limits(), timeout_s=30, workers=1)


@pytest.mark.parametrize(
    ("column", "data", "code"),
    [
        ("image", b"", "file-empty"),
        ("audio", b"", "file-empty"),
        ("text_path", b"", "file-empty"),
        ("image", JPEG[:-500], "image-damaged"),
        ("image", PNG[:-20], "image-damaged"),
        ("image", b"<html><body>not found</body></html>", "image-not"),
        ("image", BOMB, "image-too-large"),
        ("image", b"<svg xmlns='x'></svg>", "image-format"),
        ("audio", wav()[:-100], "audio-truncated"),
        ("audio", PNG, "audio-format"),
        ("text_path", b"caf\xe9", "text-encoding"),
    ],
)
def test_bad_files_are_faults_with_their_hash(tmp_path, column, data, code):
    (tmp_path / "file").write_bytes(data)
    found = looked(tmp_path, **{column: "file"})
    assert isinstance(found, Fault) and found.code == code
    assert found.modality == ("text" if column == "text_path" else column)
    assert (found.sha256 is None) == (code == "file-empty")


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "file:///etc/passwd", "a\0b", "%2e%2e/secret.png", "out.png", "loop"],
)
def test_paths_that_leave_the_folder(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "loop").symlink_to(folder / "loop")
    found = looked(folder, image=name)
    assert isinstance(found, Fault) and found.code == "path-escapes"


def test_links_within_the_folder_are_followed(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").symlink_to("a.png")
    assert isinstance(looked(tmp_path, image="b.png"), dict)


def test_fifo_folder_and_missing_file_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder").mkdir()
    codes = {name: looked(tmp_path, audio=name).code for name in ("pipe.wav", "folder", "none.wav")}
    assert codes == {"pipe.wav": "file-not-regular", "folder": "file-not-regular", "none.wav": "file-missing"}


def test_facts_and_warnings(tmp_path):
    (tmp_path / "a.jpg").write_bytes(PNG)
    (tmp_path / "a.wav").write_bytes(wav(0.5))
    facts = looked(tmp_path, image="a.jpg", audio="a.wav", text=" hi ")
    assert isinstance(facts, dict)
    assert (facts["image_width"], facts["image_height"], facts["audio_duration_s"]) == (30, 20, 0.5)
    assert facts["warnings"] == ["image: a PNG named .jpg"] and facts["text"] == " hi "
    assert set(facts) < set(schema.SAMPLES.names)


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


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with two rows, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMPIPE_WORKERS", "1")
    paths.RAW.mkdir(parents=True)
    (paths.RAW / "a.png").write_bytes(PNG)
    (paths.RAW / "rows.csv").write_text("image,text,label\na.png,one,x\n,two,y\n")
    paths.PARAMS.write_text("data: {manifests: [data/raw/rows.csv]}\n")


def replaced():
    (paths.RAW / "new").write_bytes((paths.RAW / "a.png").read_bytes())
    (paths.RAW / "new").replace(paths.RAW / "a.png")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: (paths.RAW / "a.png").write_bytes(JPEG), "a.png"),
        (lambda: (paths.RAW / "rows.csv").touch(), "rows.csv"),
        (lambda: (paths.RAW / "rows.csv").unlink(), "rows.csv"),
        (lambda: (paths.RAW / "more.csv").write_text(""), "more.csv"),
        (replaced, "a.png"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_a_file_that_changes_meanwhile_is_a_run_to_repeat(monkeypatch, change, name):
    judge = ingest.ingest

    def interrupted(*given, **named):
        found = judge(*given, **named)
        change()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "ingest", interrupted)
        with pytest.raises(
            TemporaryError, match=f"file-changed 1 files .* data/raw/{name} — nothing"
        ) as raised:
            stage.main()
    assert raised.value.exit_status == 75 and not paths.SAMPLES.exists() and not paths.METRICS.exists()
    if name != "rows.csv" or (paths.RAW / name).exists():
        stage.main()
        assert paths.SAMPLES.exists()


@pytest.mark.usefixtures("workspace")
def test_files_that_stay_as_they_are_pass(capsys):
    (paths.RAW / "dead").symlink_to("nowhere")
    stage.main()
    assert "2 rows in = 2 ok" in capsys.readouterr().out
    assert snapshot.take([paths.RAW, paths.CORPUS]).keys() == {"data/raw/a.png", "data/raw/rows.csv"}


LIMITS = """
data: {manifests: [data/raw/rows.csv]}
ingest:
  max_pixels: 60_000_000
  max_file_bytes: 110_000_000
  max_duration_s: 700
  timeout_s: 400
  allow_truncated_audio: true
"""


def extracted(monkeypatch, modality):
    """Rows of the feature table after the stage, which was given no less time than ingest."""
    given = []

    def noted(*arguments, **named):
        given.append(named["timeout_s"])
        return extract(*arguments, **named)

    monkeypatch.setattr("sys.argv", ["extract", modality])
    monkeypatch.setattr(extract_stage, "extract", noted)
    extract_stage.main()
    assert given == [400]
    return [row for part in tables.read_shards(paths.features(modality)) for row in part.to_pylist()]


@pytest.mark.usefixtures("workspace")
def test_what_ingest_accepts_by_its_parameters_is_extracted(monkeypatch):
    """Past each default: pixels, bytes, seconds, and a recording that ends early."""
    large = np.zeros((7_200, 7_200), np.uint8)
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(8_000 * 650), 8_000, format="FLAC")
    (paths.RAW / "large.png").write_bytes(cv2.imencode(".png", large)[1].tobytes())
    (paths.RAW / "a.png").write_bytes(PNG)
    os.truncate(paths.RAW / "a.png", 100_000_001)
    (paths.RAW / "cut.wav").write_bytes(wav()[:-100])
    (paths.RAW / "long.flac").write_bytes(silence.getvalue())
    (paths.RAW / "rows.csv").write_text("image,audio,label\nlarge.png,cut.wav,x\na.png,long.flac,y\n")
    with pytest.raises(TooManyBadRowsError, match="1 file-too-large, 1 image-too-large"):
        stage.main()  # the first fault of a row counts
    paths.PARAMS.write_text(LIMITS)
    stage.main()
    assert tables.read_rows(paths.QUARANTINE, schema.QUARANTINE) == []
    for modality in ("image", "audio"):
        assert [row["error"] for row in extracted(monkeypatch, modality)] == [None, None]


def test_no_parameter_allows_more_than_extract_takes():
    for key, limit in (("max_file_bytes", extractor.MAX_FILE_BYTES), ("max_pixels", image.MOST_PIXELS)):
        assert getattr(params.Ingest.model_validate({key: limit}), key) == limit
        with pytest.raises(ValidationError):
            params.Ingest.model_validate({key: limit + 1})


@pytest.mark.usefixtures("workspace")
def test_names_that_are_no_text_are_rows_of_the_quarantine(capsys):
    bad = [b"caf\xe9.png", b"cat/caf\xe9.png", b"cat/caf\xe9.txt", b"cat/x.\xe9", b"d\xe9/1.png"]
    for name in (*bad, b"cat/1.png"):
        path = paths.RAW / "pets" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    paths.PARAMS.write_text("data: {manifests: [data/raw/pets]}\ningest: {max_bad_fraction: 0.9}\n")
    stage.main()
    assert "6 rows in = 1 ok + 5 quarantined + 0 duplicates" in capsys.readouterr().out
    found = tables.read_rows(paths.QUARANTINE, schema.QUARANTINE)
    shown = [name.decode("ascii", "backslashreplace") for name in bad]
    assert {row["id"]: row["code"] for row in found} == dict.fromkeys(shown, "row-malformed")


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
