"""New samples against a model's own: what is alike, what is not, each worked out by hand."""

import json
import re

import pyarrow as pa
import pytest
import tiny_bundle
import tiny_champion
from typer.testing import CliRunner

from mmpipe import schema
from mmpipe.cli import app
from mmpipe.compare import drift
from mmpipe.compare.drift import Said, Thresholds


def table(labels, *, seconds=(1.0, 2.0), words="low", images=1.0, rate=8000):
    """A sample a label; the first of them have images; seconds and rates in turn."""
    rows = []
    for number, label in enumerate(labels):
        row = dict.fromkeys(schema.SAMPLES.names) | {"id": f"{number:04d}", "source": "m:1", "warnings": []}
        row |= {"target": label, "text": words * (1 + number % 3), "text_sha256": "t"}
        row |= {
            "audio_sha256": "a",
            "audio_sample_rate": rate,
            "audio_duration_s": seconds[number % len(seconds)],
        }
        if number < images * len(labels):
            row |= {"image_sha256": "i", "image_width": 40, "image_height": 30}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema.SAMPLES)


OLD = table(["cat", "dog"] * 60)


def checks(found):
    return {one["name"]: one for one in found["checks"]}


def drifted(found):
    return [one["name"] for one in found["checks"] if one["drifted"]]


def test_the_same_kind_of_samples_is_steady():
    found = drift.compare(OLD, table(["dog", "cat"] * 21), Thresholds())
    assert (found["verdict"], found["old"], found["new"]) == ("steady", 120, 42)
    assert {one["distance"] for one in found["checks"]} == {0.0}
    # images and rates are the same everywhere: nothing to compare
    assert list(checks(found)) == ["labels", "audio, s", "text, characters"]


def test_other_labels():
    found = drift.compare(OLD, table(["cat"] * 36 + ["dog"] * 4), Thresholds())
    assert (found["verdict"], drifted(found)) == ("drifted", ["labels"])
    one = checks(found)["labels"]
    assert (one["test"], one["distance"], one["most"]) == ("chi-square", 0.4, "cat: 50.0% → 90.0%")
    assert drift.sentence(found) == "40 new samples differ in labels (cat: 50.0% → 90.0%)"


def test_a_label_that_the_model_does_not_know_is_named():
    found = drift.compare(OLD, table(["cat", "cow"] * 20), Thresholds())
    assert found["unknown_labels"] == {"cow": 20}
    assert drifted(found) == ["labels"]
    assert "  20 samples have the label 'cow', which the model does not know" in list(drift.lines(found))
    blind = drift.compare(OLD, table(["cat", "cow"] * 20), Thresholds(), kind="none")
    assert (blind["verdict"], blind["unknown_labels"], "labels" in checks(blind)) == ("steady", {}, False)


def test_other_recordings_texts_and_missing_pictures():
    new = table(["cat", "dog"] * 20, seconds=(1.0, 8.0), words="much longer", images=0.5, rate=44100)
    found = drift.compare(OLD, new, Thresholds())
    assert drifted(found) == ["with image", "audio, samples/s", "audio, s", "text, characters"]
    assert checks(found)["with image"]["most"] == "with: 100.0% → 50.0%"
    assert checks(found)["with image"]["distance"] == checks(found)["audio, s"]["distance"] == 0.5
    assert checks(found)["audio, s"]["most"] == "at most 2: 100.0% → 50.0%"


def test_a_sure_but_small_shift_is_none():
    old, new = table(["cat", "dog"] * 2000), table(["cat"] * 1100 + ["dog"] * 900)
    found = drift.compare(old, new, Thresholds())
    assert checks(found)["labels"]["p"] < 0.01 and checks(found)["labels"]["distance"] == 0.05
    assert found["verdict"] == "steady"
    assert drift.compare(old, new, Thresholds(min_distance=0.05))["verdict"] == "drifted"


def test_few_samples_say_nothing():
    found = drift.compare(OLD, table(["cow"] * 19), Thresholds())
    assert (found["verdict"], found["checks"]) == ("too few", [])
    assert drift.sentence(found) == "19 new samples, fewer than 20: nothing can be said"


def test_what_the_model_says_of_them():
    def said(labels, confidence):
        return pa.table({"prediction": labels, "confidence": pa.array(confidence, pa.float32())})

    old = said(["cat", "dog"] * 30, [0.8, 0.9] * 30)
    new = table(["cat", "dog"] * 20)
    found = drift.compare(
        OLD, new, Thresholds(), said=Said("label", old, said(["cat"] * 40, [0.8, 0.3] * 20))
    )
    assert drifted(found) == ["predicted labels", "confidence"]
    assert checks(found)["confidence"]["most"] == "at most 0.3: 0.0% → 50.0%"


def test_several_labels_count_each():
    both, one = json.dumps(["cat", "dog"]), json.dumps(["cat"])
    found = drift.compare(
        table([both] * 60), table([one, both, one, json.dumps(["cow"])] * 10), Thresholds(), kind="labels"
    )
    assert checks(found)["labels"]["most"] == "dog: 50.0% → 20.0%"
    assert found["unknown_labels"] == {"cow": 10}


def test_numbers_as_targets_and_as_predictions():
    old, new = table(["1.0", "2.0"] * 60), table(["1.0", "7.5"] * 20)
    values = (pa.table({"prediction": [1.0, 2.0] * 30}), pa.table({"prediction": [9.0] * 20}))
    found = drift.compare(old, new, Thresholds(), kind="number", said=Said("number", *values))
    assert drifted(found) == ["numbers", "predicted numbers"]
    assert checks(found)["numbers"]["most"] == "at most 2: 100.0% → 50.0%"
    assert checks(found)["predicted numbers"]["distance"] == 1.0
    assert found["unknown_labels"] == {}


def test_a_task_that_says_neither_is_not_asked():
    said = Said("none", *(pa.table({"embedding_text": [[1.0]] * 20}) for _ in range(2)))
    found = drift.compare(OLD, OLD, Thresholds(), kind="none", said=said)
    assert list(checks(found)) == ["audio, s", "text, characters"]


def test_false_alarms_are_rare():
    """Of 200 looks at samples of the very same kind, with all checks together."""
    import numpy as np

    random = np.random.default_rng(0)

    def some(count):
        seconds = tuple(random.gamma(2.0, size=count))
        return table(random.choice(["cat", "cow", "dog"], count).tolist(), seconds=seconds)

    old = some(150)
    found = [drift.compare(old, some(40), Thresholds(alpha=0.05, min_distance=0)) for _ in range(200)]
    assert sum(one["verdict"] == "drifted" for one in found) <= 20


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    return tiny_champion.make(folder / "w", folder / "scratch")


def command(workspace, monkeypatch, *arguments):
    monkeypatch.chdir(workspace.root)
    return CliRunner().invoke(app, ["drift", *arguments])


def test_the_command_compares_with_the_champion(workspace, monkeypatch):
    """36 samples made the champion, 18 of them its training split; known ones are no news."""
    again = command(workspace, monkeypatch, "rows", "--json")
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert (found["model"], found["known"], found["new"], found["old"]) == ("fusion@v1.0.0", 36, 0, 18)
    tiny_champion.drop(workspace.root / "landing", seed=7, count=30)
    alike = command(workspace, monkeypatch, "landing", "--json")
    assert alike.exit_code == 0, alike.output
    found = json.loads(alike.stdout)
    assert (found["verdict"], found["known"], found["new"]) == ("steady", 0, 30)
    assert {"labels", "predicted labels", "confidence", "audio, s"} <= set(checks(found))


def test_the_command_ends_with_5_where_they_differ(workspace, monkeypatch):
    tiny_champion.drop(workspace.root / "landing", seed=8, count=30, labels=(tiny_bundle.LABELS[0],))
    done = command(workspace, monkeypatch, "landing/rows.csv", "--no-predictions")
    assert done.exit_code == 5
    told = "new samples differ in labels (bass: 33.3% → 100.0%)"
    assert told in done.stdout.splitlines()[0]
    assert re.search(rf"^drifted landing/rows.csv \d+ {re.escape(told)}", done.stderr)
    blind = command(workspace, monkeypatch, "landing/rows.csv", "--no-predictions", "--unlabelled")
    assert blind.exit_code == 0, blind.output


def test_a_table_without_labels(workspace, monkeypatch):
    rows = "".join(f"{n},some words {n}\n" for n in range(25))
    (workspace.root / "landing/words.csv").write_text(f"id,text\n{rows}")
    refused = command(workspace, monkeypatch, "landing/words.csv")
    assert refused.exit_code == 5 and "manifest-columns" in refused.stderr
    done = command(workspace, monkeypatch, "landing/words.csv", "--unlabelled", "--json")
    assert done.exit_code == 5
    assert {"with audio", "with image"} <= set(drifted(json.loads(done.stdout)))
