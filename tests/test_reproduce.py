"""Versions made again by the command that people type, with real git and DVC: honest and altered ones."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import signing
import tagging
from test_own_data import SMALL, picture, write_table
from workspace import Workspace, copy_package, make, set_params

from mmpipe import bundle, files, lockfile, paths

STAGES = ["code", "fetch", "ingest", "split", "tokenizer", "extract@audio", "extract@image", "extract@text"]
STAGES += ["train", "evaluate", "bundle", "report"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A workspace with own data under DVC, after its first run, as v1.0.0."""
    base = tmp_path_factory.mktemp("reproduce")
    write_table(base / "theirs")
    Workspace(base).run("mmpipe", "init", "w", "--from", "theirs/rows.csv")
    workspace = Workspace(base / "w", dict(tagging.AUTHOR))
    set_params(workspace, {**SMALL, "train.epochs": 1, "train.lr": 0.001})
    workspace.run("dvc", "add", "--quiet", "data/raw")
    workspace.repro()
    tagging.publish(workspace, "v1.0.0")
    return workspace


@pytest.fixture
def workspace(published):
    """The workspace at v1.0.0, wherever a test left it."""
    yield published
    published.run("git", "reset", "--quiet", "--hard", "fusion@v1.0.0")
    published.run("git", "clean", "--quiet", "--force", "-d", "mmpipe")
    published.run("dvc", "checkout", "--quiet", "data/raw.dvc")


def reproduce(workspace, *arguments, check=False):
    done = workspace.run("mmpipe", "reproduce", *arguments, check=check)
    assert "Traceback" not in done.stderr
    return done


def edit(path: Path, before: str, after: str) -> None:
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def leaves_nothing(workspace) -> bool:
    """No folder of a checkout, and git knows of no second worktree."""
    left = [path for path in (workspace.root / ".mmpipe/reproduce").iterdir() if path.is_dir()]
    trees = workspace.run("git", "worktree", "list", "--porcelain").stdout.count("worktree ")
    return not left and trees == 1


def test_an_honest_version_is_identical(workspace, tmp_path):
    origin = workspace.root.parent / "origin.git"
    workspace.run("git", "clone", "--quiet", "--bare", ".", str(origin))
    workspace.run("git", "remote", "add", "origin", str(origin))
    tag = workspace.run("git", "rev-parse", "fusion@v1.0.0").stdout
    path, (private, public) = tmp_path / "record.json", signing.keys(tmp_path, "team")
    record_it = ("-o", str(path), "--attach", "--push", "--sign", str(private))
    done = reproduce(workspace, "fusion@latest", *record_it, check=True)
    lines = re.findall(r"^(\S+) +(identical) +[\d.]+ s$", done.stdout, re.MULTILINE)
    assert [name for name, _ in lines] == STAGES
    assert "identical: 12 stages came out byte for byte as recorded" in done.stdout
    assert "stages run mmpipe" in done.stdout and "of this environment" in done.stdout
    assert "brought data/raw" in done.stdout
    assert leaves_nothing(workspace)
    record = json.loads(path.read_bytes())
    digest, _ = record.pop("sha256"), record.pop("signature")
    assert digest == files.sha256(files.canonical_json(record).encode())
    assert (record["tag"], record["verdict"], record["stage"]) == ("fusion@v1.0.0", "identical", None)
    assert record["bundle_sha256"] == bundle.read(workspace.root / paths.BUNDLE).digest
    assert [stage["name"] for stage in record["stages"]] == STAGES
    assert all(out["recorded"] == out["now"] for stage in record["stages"] for out in stage["outs"].values())
    assert record["environment"]["differences"] == []
    for where in (workspace.root, origin):
        words = ("notes", "--ref=mmpipe-reproduce", "show", "fusion@v1.0.0^{commit}")
        assert Workspace(where).run("git", *words).stdout.encode() == path.read_bytes()
        checks = ("--record", "--require-signature", str(public), "--from", str(where))
        checked = workspace.run("mmpipe", "verify", "fusion@v1.0.0", *checks).stdout
        assert checked.startswith("fusion@v1.0.0: identical: ") and "signature holds" in checked
    assert workspace.run("git", "rev-parse", "fusion@v1.0.0").stdout == tag
    assert workspace.run("git", "status", "--porcelain").stdout == ""


def diverged(workspace, tag, *arguments):
    """The stage that is named, and all that is said."""
    done = reproduce(workspace, tag, *arguments)
    assert done.returncode == 6
    assert leaves_nothing(workspace)
    found = re.search(r"^not-reproduced \S+ diverged at (\S+): ", done.stderr, re.MULTILINE)
    return found[1], done.stdout + done.stderr


def test_another_recorded_learning_rate_names_train(workspace):
    edit(workspace.root / "dvc.lock", "lr: 0.001", "lr: 0.002")
    tagging.publish(workspace, "v1.0.1")
    stage, words = diverged(workspace, "fusion@v1.0.1")
    assert stage == "train"
    assert "recorded with train.lr 0.002, now 0.001" in words
    assert "evaluate " not in words


def test_another_sample_names_ingest(workspace):
    (workspace.root / "data/raw/my photos/1.png").write_bytes(picture(0, 1000))
    workspace.run("dvc", "add", "--quiet", "data/raw")
    tagging.publish(workspace, "v1.0.2")
    stage, words = diverged(workspace, "fusion@v1.0.2")
    assert stage == "ingest"
    assert "data/raw is not the one that was recorded" in words
    assert "1 of 48 others differ in image_sha256" in words


def test_other_code_of_its_own_names_its_stage(workspace):
    """The commit brings a package, in which the split is another than the one that was run."""
    edit(copy_package(workspace.root) / "split.py", "\nfrom ", "\nUNUSED = 1\nfrom ")
    tagging.publish(workspace, "v1.0.3")
    stage, words = diverged(workspace, "fusion@v1.0.3")
    assert stage == "split"
    assert "the workspace's own" in words and "other code in mmpipe.split" in words


@pytest.mark.slow
def test_another_recorded_fingerprint_names_its_stage(workspace):
    lock = lockfile.parse((workspace.root / "dvc.lock").read_bytes())
    edit(workspace.root / "dvc.lock", lock["code"].outs["data/code/tokenizer.json"], "ab" * 16)
    tagging.publish(workspace, "v1.0.4")
    stage, words = diverged(workspace, "fusion@v1.0.4")
    assert stage == "tokenizer"
    assert "is not the code that was recorded, whose fingerprint is not to be had" in words


def test_killed_or_interrupted_it_leaves_no_process_and_no_folder(workspace):
    checkout = workspace.root / ".mmpipe/reproduce/fusion@v1.0.0"
    killed = started(workspace, until="code ")
    second = reproduce(workspace, "fusion@v1.0.0")
    assert second.returncode == 7 and "is at work here already" in second.stderr
    assert at_work(checkout)
    killed.kill()
    killed.communicate()
    until = time.monotonic() + 60
    while at_work(checkout) and time.monotonic() < until:
        time.sleep(0.1)
    assert not at_work(checkout)
    interrupted = started(workspace, until="fetch ")  # in the place of what the killed one left
    assert at_work(checkout)
    interrupted.send_signal(signal.SIGINT)
    output = interrupted.communicate(timeout=60)[0]
    assert interrupted.returncode == 130 and "Traceback" not in output
    assert leaves_nothing(workspace) and not at_work(checkout)


def started(workspace, *, until: str):
    """A reproduction that has told a line with this start."""
    process = workspace.start("mmpipe", "reproduce", "fusion@v1.0.0")
    assert any(line.startswith(until) for line in process.stdout)
    return process


def at_work(folder: Path) -> list[int]:
    """Processes whose working directory is there."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = place.readlink()
        except OSError:
            continue
        if where.is_relative_to(folder):
            found.append(int(place.parts[2]))
    return found


@pytest.mark.slow
def test_elsewhere_from_a_bare_clone_and_its_remote(tmp_path):
    """The corpus `shapes`; the reader has neither a workspace nor the publisher's cache."""
    published = make(tmp_path / "theirs/w", environment=dict(tagging.AUTHOR))
    published.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    published.repro()
    tagging.publish(published, "v2.0.0")
    published.run("dvc", "push", "--quiet")
    published.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    (tmp_path / "theirs").rename(tmp_path / "away")
    reader = Workspace(tmp_path / "reader", dict(tagging.AUTHOR))
    reader.root.mkdir()
    source = (tmp_path / "bare.git").as_uri()
    done = reproduce(reader, "fusion@latest", "--from", source, "--json", check=True)
    record = json.loads(done.stdout)
    assert (record["verdict"], record["source"]) == ("identical", source)
    assert not [path for path in (reader.root / ".mmpipe/reproduce").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_another_library_version_is_equivalent(workspace, tmp_path):
    """Here OpenCV claims to be another version: other bytes where the bundle says so, and nowhere else."""
    info = tmp_path / "opencv_python-99.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 99.9\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    other = Workspace(workspace.root, {**workspace.environment, "PYTHONPATH": path})
    record = json.loads(reproduce(other, "fusion@v1.0.0", "--json", check=True).stdout)
    assert (record["verdict"], record["stage"]) == ("equivalent", "train")
    assert [change["name"] for change in record["environment"]["differences"]] == ["opencv"]
    [train] = [stage for stage in record["stages"] if stage["name"] == "train"]
    assert train["differences"]["data/trained"].startswith("the same weights; config.json: libraries.opencv")
    causes = [cause for stage in record["stages"] for cause in stage["causes"]]
    assert causes and {cause["kind"] for cause in causes} == {"libraries"}
    assert "cv2" in causes[0]["what"] and "99.9" in causes[0]["what"]


@pytest.mark.slow
def test_other_committed_metrics_name_the_evaluation(workspace):
    path = workspace.root / paths.METRICS / "evaluate.json"
    told = json.loads(path.read_bytes())
    files.write_json(path, told | {"accuracy": told["accuracy"] + 0.125})
    tagging.publish(workspace, "v1.0.6")
    stage, words = diverged(workspace, "fusion@v1.0.6")
    assert stage == "evaluate"
    assert "metrics/evaluate.json of the commit is not what dvc.lock records" in words


@pytest.mark.slow
def test_another_bundle_in_the_tag_names_the_bundle(workspace):
    tagging.publish(workspace, "v1.0.7", **{"Bundle-SHA256": "ab" * 32})
    stage, words = diverged(workspace, "fusion@v1.0.7")
    assert stage == "bundle"
    assert "in what environment it was made is unknown: " in words
    assert "the tag names bundle abababababab, this is " in words
