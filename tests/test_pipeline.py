"""The whole way with real DVC: what runs again, what does not, and that the bytes are a clean run's."""

import csv
import json
import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from workspace import Workspace, copy_package, drop_param, kill_group, make, set_params

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
ABSENT = "evaluate.calibration_bins"
"""A key that the prepared params.yaml leaves to its default."""
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.org")


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
def prepared(tmp_path_factory):
    """A workspace after its first `dvc repro`; tests work on copies of it."""
    site = tmp_path_factory.mktemp("site")
    copy_package(site)
    made = make(tmp_path_factory.mktemp("ws") / "w", environment={"PYTHONPATH": str(site)})
    set_params(made, {"data.manifests": ["data/corpus/manifest.csv", ADDED]})
    drop_param(made, ABSENT)
    made.run("dvc", "repro", "fetch")
    add_sample(made, "first", like=0, text="a first one of ours")
    ran, _ = made.repro()
    assert set(ran) == STAGES - {"fetch"}
    return made


@pytest.fixture
def package(tmp_path):
    """A copy of mmpipe whose source the test may edit."""
    return copy_package(tmp_path / "site")


@pytest.fixture
def workspace(prepared, package, tmp_path):
    """A copy of the prepared workspace, with its cache, lock and store; its stages run the test's package."""
    root = shutil.copytree(prepared.root, tmp_path / "w", symlinks=True)
    return Workspace(root, {**prepared.environment, "PYTHONPATH": str(package.parent)})


def edit(package: Path, name: str, old: str, new: str) -> None:
    path = package / name
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_clean_run_writes_every_result(prepared):
    found = prepared.hashes()
    assert {"data/samples.parquet", "data/quarantine.parquet", "models/fusion/model.safetensors"} <= set(
        found
    )
    counts = json.loads((prepared.root / "metrics/ingest.json").read_text())
    assert counts["rows_in"] == counts["rows_ok"] + counts["rows_quarantined"] + counts["rows_duplicates"]
    splits = pq.read_table(prepared.root / "data/splits.parquet").to_pylist()
    assert {row["split"] for row in splits} == {"train", "val", "test"}
    shown = prepared.run("dvc", "metrics", "show").stdout
    assert "accuracy" in shown
    prepared.run("dvc", "plots", "show")


def test_comments_and_what_is_only_shown_run_nothing(workspace, package):
    assert workspace.repro()[0] == []
    for name in ("files.py", "features/audio.py", "train.py"):
        path = package / name
        path.write_text("# a comment\n" + path.read_text() + "\n# another\n")
    edit(package, "progress.py", 'TextColumn("{task.description}"), ', "")
    edit(package, "learning.py", "epochs: Positive = 60", "epochs: Positive = 61")  # params.yaml has its own
    assert workspace.repro()[0] == []


def test_a_reworded_fix_runs_the_report_that_shows_it(workspace, package):
    edit(package, "errors.py", "give the row a label", "tell what the row shows")
    ran, output = workspace.repro()
    assert ran == ["report"]
    assert workspace.computed(output) == {}


def test_the_default_of_a_key_that_is_not_in_params_yaml_runs_its_stage(workspace, package):
    edit(
        package,
        "judging.py",
        "calibration_bins: Annotated[int, Field(ge=2, le=100)] = 15",
        "calibration_bins: int = 5",
    )
    assert workspace.repro()[0] == ["evaluate", "bundle", "report"]


def test_edit_of_the_audio_features_extracts_audio_only(workspace, package):
    path = package / "features/audio.py"
    path.write_text(path.read_text() + "\n_UNUSED = 1\n")
    ran, output = workspace.repro()
    assert ran == ["extract@audio"]  # the same features came out, so nothing behind it ran
    rows = sum(pq.read_metadata(p).num_rows for p in (workspace.root / "data/features/audio").iterdir())
    assert workspace.computed(output) == {"audio": rows}


def test_added_sample_is_the_only_one_extracted(workspace, tmp_path):
    add_sample(workspace, "second", like=1, text="and a second one")
    with clean_copy(workspace, tmp_path) as clean:
        ran, output = workspace.repro()
    assert set(ran) == STAGES - {"fetch"}
    assert workspace.computed(output) == {"audio": 1, "image": 1, "text": text_computed(workspace, output)}
    assert workspace.hashes() == clean.hashes()


def test_changed_sample_is_the_only_one_extracted(workspace, tmp_path):
    picture = next((workspace.root / "data/raw/images").glob("first.*"))
    picture.write_bytes(change(picture.read_bytes(), picture.suffix))
    with clean_copy(workspace, tmp_path) as clean:
        ran, output = workspace.repro()
    assert "extract@image" in ran
    assert workspace.computed(output)["image"] == 1
    assert workspace.computed(output).get("audio", 0) == 0
    assert workspace.hashes() == clean.hashes()


def test_learning_rate_runs_training_and_what_follows_and_dvc_tells_the_difference(workspace):
    workspace.run("git", "add", "-A")
    workspace.run("git", *AUTHOR, "commit", "-q", "-m", "a run")
    set_params(workspace, {"train.lr": 1e-4})
    assert workspace.repro()[0] == ["train", "evaluate", "bundle", "report"]
    changed = json.loads(workspace.run("dvc", "metrics", "diff", "--json").stdout)
    assert {"metrics/evaluate.json", "metrics/train.json"} <= set(changed)
    loss = changed["metrics/train.json"]["val_loss"]
    assert loss["new"] - loss["old"] == pytest.approx(loss["diff"]) and loss["diff"] != 0
    drawn = json.loads(workspace.run("dvc", "plots", "diff", "--json").stdout)["data"]
    assert any(name.endswith("confusion.csv") for name in drawn) and any(
        "plots/train" in name for name in drawn
    )
    for parts in drawn.values():
        assert {"workspace", "HEAD"} <= {revision for part in parts for revision in part["revisions"]}


def test_another_audio_feature_extracts_audio_and_runs_what_follows(workspace, package, tmp_path):
    edit(package, "features/audio.py", "FLOOR = 1e-6\n", "FLOOR = 1e-3\n")
    with clean_copy(workspace, tmp_path) as clean:
        ran, output = workspace.repro()
    assert ran == ["extract@audio", "train", "evaluate", "bundle", "report"]
    assert workspace.computed(output).keys() == {"audio"}
    assert workspace.hashes() == clean.hashes()


def text_computed(workspace: Workspace, output: str) -> int:
    """Texts: one, or all of them when the new sample's text changed the tokenizer."""
    computed = workspace.computed(output)["text"]
    rows = sum(pq.read_metadata(p).num_rows for p in (workspace.root / "data/features/text").iterdir())
    assert computed in (1, rows)
    return computed


def copy_inputs(workspace: Workspace, root: Path, **environment: str) -> Workspace:
    """The same inputs in another folder, with no cache, lock or store."""
    made = Workspace(root, {**workspace.environment, **environment})
    root.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(workspace.root / name, root / name)
    shutil.copytree(workspace.root / "data/raw", root / "data/raw")
    made.run("git", "init", "-q")
    made.run("dvc", "init", "-q")
    return made


@contextmanager
def clean_copy(workspace: Workspace, folder: Path, **environment: str) -> Iterator[Workspace]:
    """The same inputs run from the start in another folder, meanwhile; all of it when the context is left."""
    made = copy_inputs(workspace, folder / "clean", **environment)
    process = made.start("dvc", "repro")
    try:
        yield made
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert {f"Running stage '{stage}'" for stage in STAGES} <= set(
            re.findall(r"Running stage '[^']+'", output)
        )
    finally:
        if process.poll() is None:
            kill_group(process)


@pytest.mark.slow
def test_one_and_two_workers_write_the_same_bytes(prepared, tmp_path):
    with (
        clean_copy(prepared, tmp_path / "one", MMPIPE_WORKERS="1") as one,
        clean_copy(prepared, tmp_path / "two", MMPIPE_WORKERS="2") as two,
    ):
        pass
    assert one.hashes() == two.hashes()


KILLS, ROUND = 20, 4
BLOCKED = ("JSON structure is corrupted", "is busy")
"""What DVC says for ever where a kill left its lock file half-written, or its number to another program."""


@pytest.mark.slow
def test_kill_at_20_moments_leaves_the_same_bytes(prepared, tmp_path):
    """kill -9 of dvc and its whole group at random moments; then `dvc repro`, nothing by hand.

    The one exception is DVC's own: a kill can leave its lock file so that it refuses to start, before any of
    our code runs. Only then `mmpipe unlock` comes first, as in `make repro`.
    """
    started = time.monotonic()
    reference = copy_inputs(prepared, tmp_path / "reference")
    reference.repro()
    whole = time.monotonic() - started
    chance = random.Random(0)
    kills = rounds = unlocked = 0
    while kills < KILLS:
        broken = copy_inputs(prepared, tmp_path / f"round{rounds}")
        for _ in range(ROUND):  # several kills of one and the same run
            process = broken.start("dvc", "repro")
            time.sleep(chance.uniform(0.5, whole))
            if process.poll() is None:
                kill_group(process)
                kills += 1
                continue
            unlocked += unlock_if_blocked(broken, process.returncode, process.communicate()[0])
        done = broken.run("dvc", "repro", check=False)
        if unlock_if_blocked(broken, done.returncode, done.stdout + done.stderr):
            unlocked += 1
            broken.run("dvc", "repro")
        assert broken.hashes() == reference.hashes()
        shutil.rmtree(broken.root)
        rounds += 1
    print(f"\n{kills} kills in {rounds} runs, {unlocked} times `mmpipe unlock`, {rounds} results equal")  # noqa: T201


def unlock_if_blocked(workspace: Workspace, status: int, output: str) -> bool:
    """After a `dvc repro`: whether DVC refused to start; then its lock is healed. Nothing else may fail."""
    if status == 0:
        return False
    assert any(words in output for words in BLOCKED), output
    workspace.run("mmpipe", "unlock")
    return True
