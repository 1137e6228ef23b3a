"""A raw sample through predict gives what evaluate gives; a bad one gives its code."""

import shutil

import pytest
import tiny_bundle
from tiny_bundle import LABELS
from typer.testing import CliRunner

from mmpipe import evaluate, metrics, paths, schema
from mmpipe.cli import app
from mmpipe.errors import InvalidError, UsageError, VerificationError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.predict import Prediction, Refusal, Sample, load

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


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("none.png", 3, "file-missing {path} does not exist — stopped — Fix: give the path of a file"),
        ("no.png", 5, "image-not {path} "),
        ("empty.png", 5, "file-empty {path} empty"),
        (
            "folder",
            5,
            "file-not-regular {path} is not a regular file — stopped — Fix: give the path",
        ),
    ],
)
def test_a_bad_file_on_the_command_line_is_named(workspace, tmp_path, name, status, words):
    (tmp_path / "no.png").write_bytes(b"<html></html>")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    model = str(workspace[0] / paths.BUNDLE)
    command = ["predict", "--image", str(tmp_path / name), "--text", "x", "--model", model]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (status, "")
    assert done.stderr.startswith(words.format(path=tmp_path / name))
    assert "manifest" not in done.stderr


def test_bad_text_and_bytes_are_named_by_their_modality(predictor):
    with pytest.raises(InvalidError, match="text-control text holds NUL"):
        predictor.predict(text="a\0b")
    with pytest.raises(InvalidError, match="audio-format audio "):
        predictor.predict(audio=b"RIFF", text="x")
    with pytest.raises(InvalidError, match=r"row-empty has none of .* Fix: give at least one"):
        predictor.predict(text=" ")


@pytest.mark.parametrize("task", tiny_bundle.TASKS)
def test_a_bundle_of_every_task_answers_alone(tmp_path, task):
    """Its class and columns are the task's, and raw samples give what their features give."""
    samples = tiny_bundle.write(tmp_path, task=task)
    shutil.copytree(tmp_path / paths.BUNDLE, tmp_path / "alone")
    one = load(tmp_path / "alone", device="cpu")
    assert one.bundle.task_name == task
    enough = [sample for sample in samples.values() if one.bundle.task.needs <= sample.keys()]
    raw = [Sample(**sample) for sample in enough]
    answers = list(one.predict_many(raw, batch_size=4))
    again = one.answers([one.features(sample) for sample in raw])
    decoding, columns = one.bundle.decoding, one.bundle.task.fields(one.bundle.decoding)
    assert len(enough) > 1
    for answer, other, sample in zip(answers, again, enough, strict=True):
        assert type(answer) is one.bundle.task.answer and answer.modalities == tuple(sorted(sample))
        cells, others = one.bundle.task.cells(answer), one.bundle.task.cells(other)
        assert cells.keys() <= {column.name for column in columns}
        for name, value in cells.items():
            same = (
                value == others[name]
                if isinstance(value, str)
                else pytest.approx(value, abs=1e-3) == others[name]
            )
            assert same, name
        assert one.bundle.task.lines(answer)[0]
    width = one.bundle.config["architecture"]["classes"]
    assert one.bundle.task.contradiction(decoding, outputs=width) == ""
    if one.bundle.task.explains:
        found = one.explain(**complete(samples))
        said = found.value if task == "regress" else max(found.probabilities.values())
        assert found.baseline + sum(found.contributions.values()) == pytest.approx(said)
