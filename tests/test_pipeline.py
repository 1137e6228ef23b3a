"""The whole way with real DVC: what runs again, what does not, and that the bytes are a clean run's."""

import csv
import json
import random
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from workspace import Workspace, copy_package, kill_group, make, set_params

STAGES = {
    "fetch",
    "ingest",
    "split",
    "tokenizer",
    "extract@audio",
    "extract@image",
    "extract@text",
    "train",
    "evaluate",
    "bundle",
    "report",
}
ADDED = "data/raw/more.csv"


def add_sample(workspace: Workspace, name: str, *, like: int, text: str) -> None:
    """One more row in the person's own manifest, with the files of the corpus' row number `like`."""
    raw = workspace.root / "data/raw"
    corpus = workspace.root / "data/corpus"
    with (corpus / "manifest.csv").open(newline="") as file:
        complete = [row for row in csv.DictReader(file) if row["image"] and row["audio"]]
    picture, sound, label = (complete[like][name] for name in ("image", "audio", "label"))
    for source, folder in ((picture, "images"), (sound, "audio")):
        (raw / folder).mkdir(exist_ok=True)
        data = (corpus / source).read_bytes()
        suffix = Path(source).suffix
        # the same picture and sound with other bytes, so that neither is an exact duplicate
        (raw / folder / f"{name}{suffix}").write_bytes(change(data, suffix))
    table = workspace.root / ADDED
    old = table.read_text() if table.exists() else "id,image,text,audio,label\n"
    table.write_text(
        old + f"{name},images/{name}{Path(picture).suffix},{text},audio/{name}{Path(sound).suffix},{label}\n"
    )


def change(data: bytes, suffix: str) -> bytes:
    """Other pixels or other sound."""
    import cv2
    import numpy as np
    import soundfile

    if suffix in {".png", ".jpg"}:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cv2.imencode(suffix, picture[:, ::-1] // 2)[1].tobytes()
    import io

    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    out = io.BytesIO()
    soundfile.write(out, samples[::-1] * 0.5, rate, format=suffix[1:].upper())
    return out.getvalue()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of mmpipe whose source the tests may edit."""
    site = tmp_path_factory.mktemp("site")
    return copy_package(site)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, package):
    """A workspace after its first `dvc repro`."""
    made = make(tmp_path_factory.mktemp("ws") / "w", environment={"PYTHONPATH": str(package.parent)})
    manifests = ["data/corpus/manifest.csv", ADDED]
    set_params(made, {"data.manifests": manifests})
    made.run("dvc", "repro", "fetch")
    add_sample(made, "first", like=0, text="a first one of ours")
    ran, _ = made.repro()
    assert set(ran) == STAGES - {"fetch"}
    return made


def test_clean_run_writes_every_result(workspace):
    found = workspace.hashes()
    assert {"data/samples.parquet", "data/quarantine.parquet", "models/fusion/model.safetensors"} <= set(
        found
    )
    counts = json.loads((workspace.root / "metrics/ingest.json").read_text())
    assert counts["rows_in"] == counts["rows_ok"] + counts["rows_quarantined"] + counts["rows_duplicates"]
    splits = pq.read_table(workspace.root / "data/splits.parquet").to_pylist()
    assert {row["split"] for row in splits} == {"train", "val", "test"}
    shown = workspace.run("dvc", "metrics", "show").stdout
    assert "accuracy" in shown
    workspace.run("dvc", "plots", "show")


def test_second_run_runs_nothing(workspace):
    assert workspace.repro()[0] == []


def test_comment_in_a_helper_runs_nothing(workspace, package):
    for name in ("files.py", "features/audio.py", "train.py"):
        path = package / name
        path.write_text("# a comment\n" + path.read_text() + "\n# another\n")
    assert workspace.repro()[0] == []


def test_edit_of_the_audio_features_extracts_audio_only(workspace, package):
    path = package / "features/audio.py"
    path.write_text(path.read_text() + "\n_UNUSED = 1\n")
    ran, output = workspace.repro()
    assert ran == ["extract@audio"]  # the same features came out, so nothing behind it ran
    rows = sum(pq.read_metadata(p).num_rows for p in (workspace.root / "data/features/audio").iterdir())
    assert workspace.computed(output) == {"audio": rows}


def test_added_sample_is_the_only_one_extracted(workspace, tmp_path):
    add_sample(workspace, "second", like=1, text="and a second one")
    ran, output = workspace.repro()
    assert set(ran) == STAGES - {"fetch"}
    assert workspace.computed(output) == {"audio": 1, "image": 1, "text": text_computed(workspace, output)}
    assert workspace.hashes() == clean_copy(workspace, tmp_path).hashes()


def test_changed_sample_is_the_only_one_extracted(workspace, tmp_path):
    picture = next((workspace.root / "data/raw/images").glob("second.*"))
    picture.write_bytes(change(picture.read_bytes(), picture.suffix))
    ran, output = workspace.repro()
    assert "extract@image" in ran
    assert workspace.computed(output)["image"] == 1
    assert workspace.computed(output).get("audio", 0) == 0
    assert workspace.hashes() == clean_copy(workspace, tmp_path).hashes()


def test_learning_rate_runs_training_and_what_follows(workspace):
    set_params(workspace, {"train.lr": 1e-3})
    assert workspace.repro()[0] == ["train", "evaluate", "bundle", "report"]


def test_another_audio_feature_extracts_audio_and_runs_what_follows(workspace, package, tmp_path):
    path = package / "features/audio.py"
    before = "FLOOR = 1e-6\n"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, "FLOOR = 1e-3\n"))
    ran, output = workspace.repro()
    assert ran == ["extract@audio", "train", "evaluate", "bundle", "report"]
    assert workspace.computed(output).keys() == {"audio"}
    assert workspace.hashes() == clean_copy(workspace, tmp_path).hashes()


def text_computed(workspace: Workspace, output: str) -> int:
    """Texts: one, or all of them when the new sample's text changed the tokenizer."""
    computed = workspace.computed(output)["text"]
    rows = sum(pq.read_metadata(p).num_rows for p in (workspace.root / "data/features/text").iterdir())
    assert computed in (1, rows)
    return computed


def clean_copy(workspace: Workspace, folder: Path, **environment: str) -> Workspace:
    """The same inputs in another folder, with no cache, lock or store, run from the start."""
    made = Workspace(folder / "clean", {**workspace.environment, **environment})
    made.root.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(workspace.root / name, made.root / name)
    shutil.copytree(workspace.root / "data/raw", made.root / "data/raw")
    made.run("git", "init", "-q")
    made.run("dvc", "init", "-q")
    ran, _ = made.repro()
    assert set(ran) == STAGES
    return made


@pytest.mark.slow
def test_one_and_two_workers_write_the_same_bytes(workspace, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = clean_copy(workspace, tmp_path / "one", MMPIPE_WORKERS="1")
    two = clean_copy(workspace, tmp_path / "two", MMPIPE_WORKERS="2")
    assert one.hashes() == two.hashes()


@pytest.mark.slow
def test_kill_at_20_moments_leaves_the_same_bytes(workspace, tmp_path):
    """kill -9 of dvc and its whole group at random moments; then `dvc repro`, nothing by hand."""
    (tmp_path / "reference").mkdir()
    started = time.monotonic()
    reference = clean_copy(workspace, tmp_path / "reference")
    whole = time.monotonic() - started
    chance = random.Random(0)
    killed = 0
    while killed < 20:
        folder = tmp_path / f"round{killed}"
        folder.mkdir()
        broken = Workspace(folder / "w", workspace.environment)
        broken.root.mkdir()
        for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(workspace.root / name, broken.root / name)
        shutil.copytree(workspace.root / "data/raw", broken.root / "data/raw")
        broken.run("git", "init", "-q")
        broken.run("dvc", "init", "-q")
        for _ in range(4):  # several kills of one and the same run
            process = broken.start("dvc", "repro")
            time.sleep(chance.uniform(0.5, whole))
            if process.poll() is None:
                kill_group(process)
                killed += 1
            else:
                process.communicate()
        broken.repro()
        assert broken.hashes() == reference.hashes()
        shutil.rmtree(folder)
