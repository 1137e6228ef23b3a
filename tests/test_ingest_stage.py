"""The stage: files that change meanwhile, the parameters' limits through extraction, odd names."""

import io
import os

import cv2
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError
from rows import JPEG, PNG, wav

from mmpipe import ingest, params, paths, schema, snapshot, tables
from mmpipe.errors import TemporaryError, TooManyBadRowsError
from mmpipe.features import extractor
from mmpipe.features.extract import extract
from mmpipe.media import image
from mmpipe.stages import extract as extract_stage
from mmpipe.stages import ingest as stage


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
