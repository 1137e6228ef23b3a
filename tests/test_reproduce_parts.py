"""What a reproduction is judged by: causes, distances and the verdict, on records made by hand."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import tagging
import tiny
from tiny_versions import ROWS, sample
from workspace import Workspace

from mmpipe import lockfile, paths, schema, tables
from mmpipe.errors import InvalidError, LockedError, MmpipeError
from mmpipe.lockfile import Recorded
from mmpipe.reproduce import causes, checkout, distance, environment, running, verdict
from mmpipe.reproduce.causes import Cause, Upstream
from mmpipe.reproduce.distance import Distance
from mmpipe.reproduce.running import Ended
from mmpipe.reproduce.stage import Bench, Stage, committed

LOCK = b"""
schema: '2.0'
stages:
  train:
    cmd: exec train
    deps:
    - {path: data/code/train.json, hash: md5, md5: aa, size: 1}
    - {path: data/raw, hash: md5, md5: bb.dir, size: 1, nfiles: 1}
    params:
      params.yaml:
        train: {lr: 0.001, betas: [0.9, 0.99], deep: {x: null}}
    outs:
    - {path: data/trained, hash: md5, md5: cc.dir, size: 1, nfiles: 2}
"""
OLD = Recorded("exec train", {"train.lr": 1e-3}, {"data/raw": "r", "data/code/train.json": "c"}, {"out": "o"})
FINGERPRINT = {"modules": {"a": "1"}, "files": {}, "libraries": {"numpy": "2"}, "python": "3.11"}


def find(new, *, same=None, before=FINGERPRINT, now=FINGERPRINT):
    found = causes.find(OLD, new, Upstream(same or {}), lambda _: (before, now))
    return [(cause.kind, cause.what) for cause in found]


def test_lock_files_are_read():
    train = lockfile.parse(LOCK)["train"]
    assert train.command == "exec train"
    assert train.params == {"train.lr": 0.001, "train.betas": [0.9, 0.99], "train.deep.x": None}
    assert train.deps == {"data/code/train.json": "aa", "data/raw": "bb.dir"}
    assert train.outs == {"data/trained": "cc.dir"}


@pytest.mark.parametrize(
    "data", [b"stages: [1]", b"stages: {a: {outs: 3}}", b"stages: {a: {}}", b"a: [", b"\xff"]
)
def test_no_lock_file_of_dvc_is_refused(data):
    with pytest.raises(InvalidError):
        lockfile.parse(data)


def test_hashes_are_those_of_dvc(tmp_path):
    (tmp_path / "folder/b").mkdir(parents=True)
    (tmp_path / "folder/b/two.txt").write_text("2")
    (tmp_path / "folder/b.txt").write_text("1")
    (tmp_path / "file").write_bytes(b"\r\n\0")
    workspace = Workspace(tmp_path)
    workspace.run("git", "init", "--quiet")
    workspace.run("dvc", "init", "--quiet")
    workspace.run("dvc", "add", "--quiet", "folder", "file")
    for name in ("folder", "file"):
        assert f"md5: {lockfile.hashed(tmp_path / name)}\n" in (tmp_path / f"{name}.dvc").read_text()
    assert lockfile.hashed(tmp_path / "nothing") is None


def test_the_same_inputs_have_no_cause():
    assert find(OLD) == []


def test_other_params_command_and_raw_data():
    new = Recorded("exec other", {"train.lr": 1e-2}, {**OLD.deps, "data/raw": "other"}, OLD.outs)
    assert find(new) == [
        ("params", "recorded with train.lr 0.001, now 0.01"),
        ("command", "recorded as `exec train`, dvc.yaml says `exec other`"),
        ("data", "data/raw is not the one that was recorded"),
    ]


def test_what_an_earlier_stage_made_otherwise_is_no_cause_of_this_one():
    new = replace(OLD, deps={**OLD.deps, "data/raw": "other"})
    assert find(new, same={"data/raw": False}) == []
    assert find(new, same={"data/raw/x.csv": False, "data/raw/y.csv": True}) == []
    assert find(new, same={"data/raw": True})[0][0] == "data"  # this stage's record alone is another
    assert find(new, same={"data/rawer": False})[0][0] == "data"


def test_other_dependencies():
    assert find(replace(OLD, deps={"data/code/train.json": "c"})) == [
        ("pipeline", "depends on data/raw in dvc.lock alone")
    ]


def test_code_is_told_from_libraries_and_python():
    new = replace(OLD, deps={**OLD.deps, "data/code/train.json": "other"})
    assert [kind for kind, _ in find(new, before=None)] == ["code"]
    other = FINGERPRINT | {"modules": {"a": "2", "b": "1"}}
    assert find(new, now=other) == [("code", "other code in a, b")]
    other = FINGERPRINT | {"libraries": {"numpy": "3"}}
    assert find(new, now=other) == [("libraries", "recorded with numpy 2, now 3")]
    other |= {"python": "3.12", "modules": {"a": "another syntax tree"}}
    assert find(new, now=other) == [("libraries", "recorded with numpy 2, now 3; python 3.11, now 3.12")]
    other = FINGERPRINT | {"params": {"train": {"lr": 1}}}
    assert find(new, now=other) == [("params", "recorded with train.lr absent, now 1")]
    assert not Cause("libraries", "").altered and Cause("code", "").altered


def table(rows, folder: Path) -> bytes:
    path = folder / "table.parquet"
    tables.write_rows(path, [sample(name, row) for name, row in rows.items()], schema.SAMPLES)
    return path.read_bytes()


def test_tables_differ_by_rows_and_columns(tmp_path):
    old = table(ROWS, tmp_path)
    rows = {name: row for name, row in ROWS.items() if name != "e"}
    rows["a"] = ("tenor", *ROWS["a"][1:])
    rows["d"] = (*ROWS["d"][:5], ("s4", 4.5))
    rows["z"] = ROWS["e"]
    found = distance.between({"": old}, {"": table(rows, tmp_path)})
    assert found.what == (
        "1 rows only as recorded, 1 only now, 2 of 5 others differ in target, audio_duration_s "
        "by at most 0.5, as in a, d"
    )
    assert not found.same_rows


def test_the_same_rows_written_otherwise(tmp_path):
    path = tmp_path / "other.parquet"
    rows = pa.Table.from_pylist([sample(name, row) for name, row in ROWS.items()], schema.SAMPLES)
    tables.write(path, rows, compression="lz4")
    found = distance.between({"": table(ROWS, tmp_path)}, {"": path.read_bytes()})
    assert found == Distance("the same rows, written otherwise", same_rows=True)


def test_features_differ_by_their_numbers(tmp_path):
    def shard(first):
        arrays = [np.array([[first, 0.0]], np.float16), np.ones((2, 2), np.float16)]
        tables.write(tmp_path / "p", tiny.feature_table(["a", "b"], arrays, [-1, 2], "float16"))
        return {"part-00000.parquet": (tmp_path / "p").read_bytes()}

    found = distance.between(shard(1.0), shard(1.25))
    assert found.what.endswith("1 of 2 others differ in value by at most 0.25, as in a")


def test_weights_differ_by_their_largest_change():
    weights = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}
    other = {"a": weights["a"] + np.float32(0.5), "b": weights["b"]}
    saved = [{"model.safetensors": safetensors.numpy.save(of)} for of in (weights, other)]
    assert distance.between(*saved).what == "model.safetensors: 1 of 2 tensors differ, by at most 0.5 (a)"
    lacking = {"model.safetensors": safetensors.numpy.save({"a": weights["a"]})}
    assert "other tensors: b" in distance.between(saved[0], lacking).what


def test_json_and_other_files():
    old = {"m.json": json.dumps({"a": {"b": 1}, "c": 2}).encode(), "x.html": b"<p>", "gone": b""}
    new = {"m.json": json.dumps({"a": {"b": 3}}).encode(), "x.html": b"<p>more", "come": b""}
    assert distance.between(old, new).what == (
        "come: was not recorded; gone: did not come out; m.json: a.b 1 → 3, c 2 → null; 1 more files"
    )
    bundle = {"config.json": b'{"a": 1}', "manifest.json": b"1"}
    other = {"config.json": b'{"a": 2}', "manifest.json": b"2"}
    assert distance.between(bundle, other).what == "config.json: a 1 → 2"
    assert distance.between({"": b"<p>"}, {"": b"<p>more"}).what == "3 bytes recorded, 7 now"


def stage(name, state="identical", *, kinds=(), differences=None, outs=None):
    outs = outs or {f"data/{name}": ("x", "x" if state == "identical" else "y")}
    return Stage(name, state, 1.0, outs, [Cause(kind, kind) for kind in kinds], differences or {})


FEATURES = stage("extract@audio", "differs", differences={"f": Distance("by at most 1e-7")})
WEIGHTS = stage("train", "differs", differences={"data/trained": Distance("by at most 1e-6")})
BEFORE = [stage("fetch"), stage("ingest")]


def test_where_the_environment_is_unknown_a_difference_is_one():
    found = conclude(*BEFORE, WEIGHTS, same=None)
    assert found.word == "diverged" and "not to be had" in found.why


def conclude(*stages, same=False, outside=(), recorded=None):
    names = [one.name for one in stages] if recorded is None else recorded
    return verdict.conclude(stages, names, same_environment=same, outside=outside)


def test_identical_only_with_every_stage():
    assert conclude(*BEFORE, same=True).word == "identical"
    lacking = conclude(*BEFORE, recorded=["fetch", "ingest", "train"], same=True)
    assert (lacking.word, lacking.stage) == ("diverged", "train")


def test_other_weights_on_the_same_machine_have_diverged():
    assert verdict.ends([*BEFORE, WEIGHTS], same_environment=True)
    found = conclude(*BEFORE, WEIGHTS, same=True)
    assert (found.word, found.stage) == ("diverged", "train")
    assert found.why == ("data/trained: by at most 1e-6, with the same libraries on the same kind of machine")


def test_other_weights_elsewhere_are_equivalent_within_the_intervals():
    for same in (False, None):
        assert not verdict.ends([*BEFORE, WEIGHTS], same_environment=same)
    found = conclude(*BEFORE, FEATURES, WEIGHTS, same=False)
    assert (found.word, found.stage) == ("equivalent", "extract@audio")
    beyond = conclude(
        *BEFORE, FEATURES, WEIGHTS, same=False, outside=["accuracy 0.1 is outside of [0.4, 0.6]"]
    )
    assert (beyond.word, beyond.stage) == ("diverged", "extract@audio")
    assert "accuracy 0.1 is outside" in beyond.why


def test_features_wait_until_the_machine_is_known():
    assert not verdict.ends([*BEFORE, FEATURES], same_environment=None)
    assert verdict.ends([*BEFORE, FEATURES, stage("train")], same_environment=True)


def test_other_rows_have_diverged_everywhere():
    rows = stage("split", "differs", differences={"data/splits.parquet": Distance("2 rows differ")})
    assert verdict.ends([*BEFORE, rows], same_environment=False)
    assert conclude(*BEFORE, rows, same=False).stage == "split"
    written = stage("split", "differs", differences={"data/splits.parquet": Distance("the same", True)})
    assert not verdict.ends([*BEFORE, written], same_environment=False)
    assert conclude(*BEFORE, written, same=False).word == "equivalent"


def test_an_altered_record_goes_before_everything():
    altered = stage("train", "altered", kinds=["libraries", "params"])
    assert verdict.ends([*BEFORE, FEATURES, altered], same_environment=None)
    found = conclude(*BEFORE, FEATURES, altered, same=False)
    assert (found.word, found.stage, found.why) == ("diverged", "train", "params")


def test_fingerprints_alone_do_not_diverge():
    code = stage("code", "differs", outs={"data/code/train.json": ("a", "b")})
    assert not verdict.ends([code], same_environment=True)
    assert conclude(code, *BEFORE, same=False).word == "identical"


def test_metrics_beyond_their_interval():
    old = {"accuracy_low": 0.4, "accuracy_high": 0.6, "macro_f1_low": 0.3, "macro_f1_high": 0.5}
    assert verdict.outside(old, {"accuracy": 0.4, "macro_f1": 0.5}) == []
    assert verdict.outside(old, {"accuracy": 0.61, "macro_f1": 0.5}) == [
        "accuracy 0.610 is outside of [0.400, 0.600]"
    ]
    assert len(verdict.outside({}, {"accuracy": 0.5, "macro_f1": 0.5})) == 2
    assert len(verdict.outside(old, {})) == 2


def bench(root, lock, **told):
    version = SimpleNamespace(bundle_sha256="", metrics={}, **told)
    original = SimpleNamespace(
        version=version, distance=lambda path, root: Distance("far"), read=lambda path: None
    )
    return Bench(original, root, lock, committed(root, lock))


def test_a_stage_without_a_record_is_altered(tmp_path):
    found = bench(tmp_path, {}).judge(Ended("new", 1.0, OLD), [])
    assert (found.state, found.causes[0].kind) == ("altered", "pipeline")


def test_a_committed_output_that_is_not_the_recorded_one(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    right = replace(OLD, outs={"metrics.json": lockfile.md5(b"{}"), "not/in/git": "x"})
    assert bench(tmp_path, {"e": right}).judge(Ended("e", 1.0, right), []).state == "identical"
    wrong = replace(OLD, outs={"metrics.json": lockfile.md5(b"other")})
    found = bench(tmp_path, {"e": wrong}).judge(Ended("e", 1.0, wrong), [])
    assert (found.state, found.causes[0].kind) == ("altered", "metrics")


def test_metrics_that_only_the_tag_tells_otherwise(tmp_path):
    path = tmp_path / paths.METRICS / "evaluate.json"
    path.parent.mkdir()
    path.write_text('{"accuracy": 0.5}')
    one = replace(OLD, outs={"metrics/evaluate.json": lockfile.md5(path.read_bytes())})
    there = bench(tmp_path, {"evaluate": one})
    assert there.judge(Ended("evaluate", 1.0, one), []).state == "identical"
    there.original.version.metrics["accuracy"] = 0.75
    found = there.judge(Ended("evaluate", 1.0, one), [])
    assert (found.state, found.causes[0].what) == ("altered", "the tag says accuracy 0.75, this is 0.5")


def test_libraries_and_machine_of_a_config(tmp_path):
    config = {
        "libraries": {"mmpipe": "0.0.1", "numpy": np.__version__, "gone-for-good": "1"},
        "machine": {"kind": "A"},
    }
    here = environment.here(config, "0.1.0")
    assert here == {"mmpipe": "0.1.0", "numpy": np.__version__, "gone-for-good": None}
    changed = [change["name"] for change in environment.libraries(config, here)]
    assert changed == ["gone-for-good", "mmpipe"]
    assert environment.libraries({}, here) == []
    assert environment.here({"libraries": {"opencv": "5"}}, "0")["opencv"].count(".") >= 2
    assert environment.machine(config, tmp_path) is None
    (tmp_path / paths.TRAINED).mkdir(parents=True)
    (tmp_path / paths.TRAINED / "config.json").write_text('{"machine": {"kind": "B"}}')
    assert environment.machine(config, tmp_path) == [{"name": "kind", "old": "A", "new": "B"}]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with DVC, a data file under it and one commit; the current folder."""
    workspace = Workspace(tmp_path / "w", dict(tagging.AUTHOR))
    (workspace.root / "data/raw").mkdir(parents=True)
    (workspace.root / "data/raw/own.csv").write_text("id,label\n1,a\n")
    for name in ("git", "dvc"):
        workspace.run(name, "init", "--quiet")
    workspace.run("dvc", "add", "--quiet", "data/raw")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "one")
    monkeypatch.chdir(workspace.root)
    for name, value in tagging.AUTHOR.items():
        monkeypatch.setenv(name, value)
    return workspace


def version(repository, name="fusion"):
    commit = repository.run("git", "rev-parse", "HEAD").stdout.strip()
    return SimpleNamespace(name=name, tag=f"{name}@v1.0.0", commit=commit, bundle_sha256="ab" * 32)


def test_a_checkout_is_clean_and_goes(repository):
    this = version(repository)
    (repository.root / "data/raw/own.csv").write_text("another")
    (repository.root / ".mmpipe/downloads").mkdir(parents=True)
    (repository.root / ".mmpipe/downloads/package.deb").write_bytes(b"1")
    with checkout.checkout(this, ".") as root:
        assert not (root / "data/raw").exists() and (root / ".git").is_file()
        assert checkout.bring_data(this, ".", root) == ["data/raw"]
        assert (root / "data/raw/own.csv").read_text() == "id,label\n1,a\n"
        checkout.bring_downloads(root)
        assert (root / ".mmpipe/downloads/package.deb").is_file() and not (root / ".mmpipe/store").exists()
        with pytest.raises(LockedError), checkout.checkout(this, "."):
            pass
    assert not root.exists()
    assert repository.run("git", "worktree", "list").stdout.count("\n") == 1


def test_a_kept_checkout_stays_until_the_next(repository):
    with checkout.checkout(version(repository), ".", keep=True) as root:
        (root / "left").touch()
    assert (root / "left").is_file()
    with checkout.checkout(version(repository), ".") as again:
        assert again == root and not (again / "left").exists()


def test_a_checkout_of_another_repository_is_a_clone(repository, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with checkout.checkout(version(repository), str(repository.root)) as root:
        assert (root / ".git").is_dir() and root.is_relative_to(tmp_path / "elsewhere")
        checkout.bring_data(version(repository), str(repository.root), root)
        assert (root / "data/raw/own.csv").is_file()
    assert not root.exists()


def test_own_data_with_other_bytes_is_refused(repository):
    digest = lockfile.md5(b"id,label\n1,a\n")
    path = repository.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(b"id,label\n1,b\n")
    with (
        pytest.raises(MmpipeError, match=r"own\.csv has md5"),
        checkout.checkout(version(repository), ".") as root,
    ):
        checkout.bring_data(version(repository), ".", root)
    assert not root.exists()


def test_stages_are_told_as_they_end(repository):
    (repository.root / paths.PIPELINE).write_text(
        'stages:\n  a: {cmd: "echo 1 > one.txt", outs: [one.txt]}\n'
        '  b: {cmd: "cp one.txt two.txt", deps: [one.txt], outs: [two.txt]}\n'
        '  c: {cmd: "echo some words; exit 3", deps: [two.txt]}\n'
    )
    ran = running.run(repository.root)
    first, second = next(ran), next(ran)
    assert (first.name, first.recorded.outs) == ("a", {"one.txt": lockfile.md5(b"1\n")})
    assert (second.name, second.recorded.deps) == ("b", first.recorded.outs)
    with pytest.raises(MmpipeError, match=r"stage c ended with 255: [\s\S]*some words"):
        next(ran)
