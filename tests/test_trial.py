"""Real bundles on the raw samples of a workspace, from what each answers to the command's exit status."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import test_card
import tiny_bundle
from typer.testing import CliRunner

from mmpipe import bundle, evaluate, gate, metrics, params, paths, schema, tables, testset, trial
from mmpipe.cli import app
from mmpipe.commands.models import judge as judge_candidate
from mmpipe.errors import InvalidError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.predict import load
from mmpipe.registry import messages, tagged
from mmpipe.stages import bundle as bundle_stage


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sample_rows(root, samples, targets):
    """As ingest writes them."""
    rows = []
    for name, sample in samples.items():
        row = dict.fromkeys(schema.SAMPLES.names) | {"id": name, "source": "rows.csv:1", "warnings": []}
        row["target"] = targets[name]
        for m in ("image", "audio"):
            if m in sample:
                row[f"{m}_path"] = sample[m].relative_to(root).as_posix()
                row[f"{m}_sha256"] = sha256(sample[m].read_bytes())
        if "text" in sample:
            row |= {"text": sample["text"], "text_sha256": sha256(sample["text"].encode())}
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with the bundles `models/fusion`, which takes all, and `models/text`; its raw samples."""
    root = tmp_path_factory.mktemp("workspace")
    samples = tiny_bundle.write(root)
    other = tmp_path_factory.mktemp("other")
    tiny_bundle.write(other, modalities=["text"])
    shutil.copytree(other / paths.BUNDLE, root / "models/text")
    targets = {row["id"]: row["target"] for row in tables.read_rows(root / paths.SPLITS, schema.SPLIT)}
    tables.write_rows(root / paths.SAMPLES, sample_rows(root, samples, targets), schema.SAMPLES)
    (root / paths.PARAMS).write_text(
        "evaluate: {threads: 1}\ngate: {resamples: 200, max_latency_ratio: null}\n"
    )
    return root, samples


@pytest.fixture
def workspace(made, tmp_path, monkeypatch):
    """A copy of it to change, which is the current folder."""
    root = tmp_path / "workspace"
    shutil.copytree(made[0], root)
    monkeypatch.chdir(root)
    return root


def runners(root, *names):
    return [
        trial.Runner(name, root / "models" / name, load(root / "models" / name, device="cpu"))
        for name in names
    ]


def call(*arguments):
    return CliRunner().invoke(app, ["gate", *arguments], catch_exceptions=False)


def test_probabilities_are_those_of_evaluate(made):
    root, _ = made
    test, [fusion] = trial.run(root, testset.read(root), runners(root, "fusion"))
    features = {m: root / paths.features(m) for m in schema.MODALITIES}
    bundle = load_bundle(root / paths.BUNDLE)
    scores = evaluate.score(bundle, features, root / paths.SPLITS, "test", batch_size=256)
    chances = metrics.softmax(scores.logits[scores.full], bundle.temperature)
    columns = [test.labels.index(label) for label in bundle.labels]
    assert fusion.answers[:, columns] == pytest.approx(chances, abs=1e-5)
    assert [test.labels[n] for n in test.target] == [bundle.labels[n] for n in scores.target]
    assert test.group.tolist() == scores.group.tolist()
    assert fusion.bundle_sha256 == bundle.digest
    assert fusion.size_bytes == sum(path.stat().st_size for path in (root / paths.BUNDLE).iterdir())


def test_a_model_without_a_samples_modality_has_no_answer(made):
    root, samples = made
    held_out = testset.read(root)
    test, [fusion, text] = trial.run(root, held_out, runners(root, "fusion", "text"))
    silent = ~text.answers.any(axis=1)
    assert silent.tolist() == ["text" not in samples[row["id"]] for row in held_out.rows]
    assert 0 < silent.sum() < len(silent) and fusion.answers.any(axis=1).all()
    verdict = gate.judge(test, fusion, text, gate.Thresholds(resamples=200))
    assert verdict.figures["challenger"]["unanswered"] == silent.sum()
    assert 0 < text.latency_ms < 5000 and 0 < fusion.latency_ms < 5000


def test_what_ingest_accepted_by_its_parameters_is_answered(workspace):
    """A recording that ends early, as `ingest.allow_truncated_audio` takes it."""
    rows = tables.read_rows(paths.SAMPLES, schema.SAMPLES)
    test = {row["id"] for row in testset.read(workspace).rows}
    row = next(row for row in rows if row["audio_path"] and row["id"] in test)
    path = workspace / row["audio_path"]
    path.write_bytes(path.read_bytes()[:-100])
    row["audio_sha256"] = sha256(path.read_bytes())
    tables.write_rows(paths.SAMPLES, rows, schema.SAMPLES)
    [one] = runners(workspace, "fusion")
    held_out = testset.read(workspace)
    _, [fusion] = trial.run(workspace, held_out, [one])
    assert fusion.answers.any(axis=1).all()
    [asked] = [sample for sample in trial.raw(workspace, held_out.rows) if sample.audio == path.read_bytes()]
    assert one.predictor.preprocessor.features(asked).code == "audio-truncated"


def test_labels_of_all_are_aligned(workspace):
    rows = tables.read_rows(paths.SAMPLES, schema.SAMPLES)
    splits = tables.read_rows(paths.SPLITS, schema.SPLIT)
    for row in splits:
        row["target"] = {"bass": "alto"}.get(row["target"], row["target"])
    tables.write_rows(paths.SPLITS, splits, schema.SPLIT)
    test, [fusion] = trial.run(workspace, testset.read(workspace), runners(workspace, "fusion"))
    assert test.labels == ["=tenor", "alto", "bass", "voice"]
    assert fusion.answers[:, 1].tolist() == [0] * len(test.target)
    assert fusion.answers.sum(axis=1) == pytest.approx(1)
    assert len(rows) == len(splits)
    reasons = gate.judge(test, None, fusion, gate.Thresholds()).reasons
    count = sum(row["split"] == "test" and row["target"] == "alto" for row in splits)
    assert reasons[1] == (
        f"fusion lacks the label alto: the {count} test samples with it count as wrong for it."
    )


def test_the_test_sets_hash_follows_ids_targets_and_contents(made):
    held_out = testset.read(made[0])
    assert held_out.sha256 == testset.read(made[0]).sha256
    assert [row["id"] for row in held_out.rows] == [f"s{n:03d}" for n in range(30) if n % 4 in (0, 2)]
    for key in ("id", "target", "text_sha256", "image_sha256", "audio_sha256"):
        rows = [dict(row) for row in held_out.rows]
        rows[3][key] = "other"
        assert testset.HeldOut(rows, held_out.groups).sha256 != held_out.sha256
    assert testset.HeldOut(held_out.rows[1:], held_out.groups[1:]).sha256 != held_out.sha256


def test_a_file_that_is_not_the_ingested_one_stops_it(workspace):
    row = next(row for row in testset.read(workspace).rows if row["image_path"])
    path = workspace / row["image_path"]
    path.write_bytes(path.read_bytes() + b"\0")
    done = call("--champion", "models/text")
    assert done.exit_code == 5
    assert f"file-changed {row['image_path']} is not the file that was ingested" in done.stderr
    path.unlink()
    done = call("--champion", "models/text")
    assert done.exit_code == 5 and "file-missing" in done.stderr and "Traceback" not in done.output


def test_tables_that_do_not_fit_one_another_stop_it(workspace):
    rows = tables.read_rows(paths.SAMPLES, schema.SAMPLES)
    tables.write_rows(paths.SAMPLES, rows[1:], schema.SAMPLES)
    with pytest.raises(InvalidError, match=r"table-schema .* has no row 's000'"):
        testset.read(workspace)
    splits = [{**row, "split": "train"} for row in tables.read_rows(paths.SPLITS, schema.SPLIT)]
    tables.write_rows(paths.SPLITS, splits, schema.SPLIT)
    done = call("--champion", "models/text")
    assert done.exit_code == 5 and "split-too-few there is no test sample" in done.stderr


def test_the_same_model_is_refused_with_status_5(workspace):
    done = call("--champion", "models/fusion")
    assert done.exit_code == 5
    assert done.stdout.startswith("refuse models/fusion over models/fusion: 15 test samples in 5 groups\n")
    assert "accuracy is not shown to be better" in done.stdout
    assert "champion and challenger are the same bundle." in done.stdout
    assert done.stderr.startswith("gate-refused models/fusion may not take the place of models/fusion — ")


def test_a_better_model_is_promoted(workspace):
    """The truth is made what `fusion` says."""
    predictor = load(paths.BUNDLE, device="cpu")
    rows, splits = (
        tables.read_rows(path, kind)
        for path, kind in ((paths.SAMPLES, schema.SAMPLES), (paths.SPLITS, schema.SPLIT))
    )
    answers = predictor.predict_many(trial.raw(workspace, rows))
    for row, split, answer in zip(rows, splits, answers, strict=True):
        row["target"] = split["target"] = answer.label
        split["group"] = row["id"]
    tables.write_rows(paths.SAMPLES, rows, schema.SAMPLES)
    tables.write_rows(paths.SPLITS, splits, schema.SPLIT)
    paths.PARAMS.write_text(
        "evaluate: {threads: 1}\n"
        "gate: {max_latency_ratio: null, max_size_ratio: null, max_ece_rise: 1.0, resamples: 500}\n"
    )
    done = call("--champion", "models/text", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["champion"]) == (0, "promote", "models/text")
    assert found["figures"]["challenger"]["accuracy"] == 1
    assert found["figures"]["samples"] == found["figures"]["groups"] == 15
    assert found["figures"]["test_sha256"] == testset.read(workspace).sha256
    refused = call("--champion", "models/fusion", "--challenger", "models/text", "--json")
    assert refused.exit_code == 5 and json.loads(refused.stdout)["verdict"] == "refuse"


def test_a_stage_that_nobody_holds_means_no_champion_and_a_missing_version_is_an_error(workspace):
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True)
    done = call()
    assert done.exit_code == 0
    assert "there is no champion: models/fusion is the first, so it is promoted as it is." in done.stdout
    asked = call("--champion", "fusion#staging")  # by name, and it is not there: perhaps misspelt
    assert asked.exit_code == 3 and "tag-missing" in asked.stderr and not asked.stdout
    missing = call("--champion", "fusion@v9.9.9")
    assert missing.exit_code == 3 and "tag-missing" in missing.stderr and not missing.stdout
    nowhere = call("--champion", "models/none")
    assert nowhere.exit_code == 3 and "bundle-missing" in nowhere.stderr and not nowhere.stdout


def test_a_model_without_turns_is_named_where_the_samples_are_dialogues(workspace, tmp_path):
    tiny_bundle.write(tmp_path / "talk", turns=1)
    shutil.copytree(tmp_path / "talk" / paths.BUNDLE, "models/talk")
    asked = ("--champion", "models/text", "--challenger", "models/talk", "--json")
    known = json.loads(call(*asked).stdout)["reasons"]
    dialogues = "data: {columns: {history: earlier}}\ntext: {turns: 1}\n"
    paths.PARAMS.write_text(paths.PARAMS.read_text() + dialogues)
    note = f"models/text {trial.NO_TURNS}."
    assert json.loads(call(*asked).stdout)["reasons"][-1] == note
    assert not any(trial.NO_TURNS in reason for reason in known)
    both = json.loads(call("--champion", "models/text", "--json").stdout)["reasons"]
    assert both[-2:] == [note, f"models/fusion {trial.NO_TURNS}."]


def test_a_pulled_champion_is_called_by_its_tag(workspace):
    contents = bundle.read(workspace / "models/text")
    origin = bundle.Origin("fusion", "v1.0.0", "fusion@v1.0.0", "c" * 40, "/srv/git", contents.digest)
    bundle.write(workspace / "old", contents.files, origin=origin)
    told = json.loads(call("--champion", "old", "--json").stdout)
    assert told["champion"] == "fusion@v1.0.0"
    sizes = [path.stat().st_size for path in (workspace / "models/text").iterdir()]
    assert told["figures"]["champion"]["size_bytes"] == sum(sizes)
    assert told["figures"]["test_set"] == "unknown"


def test_publish_judges_the_bundle_that_it_is_told_of(workspace):
    """Wherever the artifact lies; the champion is a version that was pulled before."""
    digest = bundle.read(paths.BUNDLE).digest
    bundle.write(paths.MODELS / "fusion@v1.0.0", bundle.read(paths.BUNDLE).files)
    message = messages.write("fusion v1.0.0", {"Bundle-SHA256": digest})
    tag = ["tag", "-a", "fusion@v1.0.0", "-m", message]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], tag):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True)
    champion = tagged.read(workspace).resolve("fusion@v1.0.0")
    told = judge_candidate(champion, Path("models/text"))
    assert (told["champion"], told["figures"]["challenger"]["name"]) == ("fusion@v1.0.0", "models/text")
    assert told["figures"]["challenger"]["size_bytes"] == sum(
        path.stat().st_size for path in Path("models/text").iterdir()
    )


def test_a_bundle_knows_the_test_set_it_was_judged_on(workspace):
    trained = bundle.read(paths.TRAINED).files
    config = {**json.loads(trained[bundle.CONFIG]), **test_card.CONFIG}
    config |= {key: json.loads(trained[bundle.CONFIG])[key] for key in ("architecture", "labels")}
    bundle.write(paths.TRAINED, {**trained, bundle.CONFIG: json.dumps(config).encode()})
    metrics_of = {"evaluate": test_card.TEST, "ingest": test_card.ROWS, "split": test_card.SPLIT}
    for name, values in {**metrics_of, "train": test_card.TRAIN}.items():
        (paths.METRICS / f"{name}.json").parent.mkdir(exist_ok=True)
        (paths.METRICS / f"{name}.json").write_text(json.dumps(values))
    paths.FINDINGS.write_text(json.dumps(test_card.TOLD))
    bundle_stage.main()
    told = json.loads(call("--champion", "models/fusion", "--json").stdout)
    assert told["figures"]["test_set"] == "same"
    splits = tables.read_rows(paths.SPLITS, schema.SPLIT)
    splits[1]["split"] = "test"
    tables.write_rows(paths.SPLITS, splits, schema.SPLIT)
    told = json.loads(call("--champion", "models/fusion", "--json").stdout)
    assert told["figures"]["test_set"] == "changed" and told["figures"]["samples"] == 16
    assert any("was judged on another test set before" in reason for reason in told["reasons"])


def test_params_and_thresholds_have_the_same_keys_and_defaults():
    section = params.Params().gate.model_dump()
    assert gate.Thresholds(**section, bins=15) == gate.Thresholds()
    assert np.isfinite([value for value in section.values() if isinstance(value, float)]).all()
