"""How much each modality matters: by hand, by brute force, and when to warn."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_bundle
import torch

from mmpipe import evaluate, importance, paths, schema
from mmpipe.model.checkpoint import load_bundle
from mmpipe.scorecard import Scores
from mmpipe.stages import evaluate as stage
from mmpipe.tasks.task import Decoding, load
from mmpipe.transcripts import units
from mmpipe.transcripts.units import Units

LABELS = Decoding(["no", "yes"])


def saying(target, right):
    """Logits (N, 2) that are right where one says."""
    return 4.0 * np.eye(2)[np.where(right, target, 1 - target)]


def evidence(right, *, n=40, shuffled=()):
    """`right`: {subset: how many of the first samples are right}; "" is of nothing shown."""
    target = np.arange(n) % 2
    logits = {subset: saying(target, np.arange(n) < count) for subset, count in right.items()}
    names = sorted({m for subset in right for m in subset.split("+") if m})
    nothing = logits.pop("")
    ids = [f"s{i:02d}" for i in range(n)]
    present = {m: np.ones(n, np.bool_) for m in names}
    scores = Scores("test", ids, target, np.array(ids), present, logits, 0)
    dealt = {
        m: np.stack([saying(target, np.arange(n) < count) for count in counts])
        for m, counts in dict(shuffled).items()
    }
    return importance.Evidence(scores, nothing, dealt), {
        i: LABELS.labels[t] for i, t in zip(ids, target, strict=True)
    }


def measured(right, **more):
    found, cells = evidence(right, **more)
    return importance.measure(load("classify"), LABELS, found, cells, resamples=300)


def test_shapley_values_and_drops_by_hand():
    right = {"": 20, "image": 30, "text": 20, "image+text": 40}
    found = measured(right, shuffled={"image": [20, 24], "text": [40, 40]})
    image, text = found["importance"]
    # image joins first: 30 - 20, or after text: 40 - 20; text first: 0, or after image: 10; of 40 samples
    assert (image["shapley"], text["shapley"]) == (0.375, 0.125)
    assert image["drop"] == pytest.approx(1 - (20 + 24) / 2 / 40) and text["drop"] == 0
    assert image["figure"] == "accuracy" and image["samples"] == 40
    for one in (image, text):
        for name in ("shapley", "drop"):
            low, high = one[f"{name}_95"]
            assert low <= one[name] <= high
    assert text["drop_95"] == [0, 0] and image["drop_95"][0] > 0.2
    assert found["single_gain"]["over"] == "image" and found["single_gain"]["gain"] == 0.25


def test_it_warns_where_fusion_is_not_shown_to_beat_the_best_modality():
    better = measured({"": 20, "image": 24, "text": 30, "image+text": 40})
    assert importance.warnings(better) == []
    for full in (30, 31, 25):
        found = measured({"": 20, "image": 24, "text": 30, "image+text": full})
        [words] = importance.warnings(found)
        assert "not shown to beat its best single modality, text: accuracy" in words
        assert f"{(full - 30) / 40:+.3f}" in words
    assert importance.warnings({}) == []


def test_of_one_modality_and_of_a_task_that_fuses_nothing_there_is_nothing_to_say():
    assert measured({"": 20, "text": 30}) == {}
    found, cells = evidence({"": 20, "image": 24, "text": 30, "image+text": 40})
    assert importance.measure(load("retrieve"), LABELS, found, cells, resamples=10) == {}
    assert importance.table({}) == []


def test_of_errors_better_is_positive_too():
    """Numbers 0 … 39: alone image is off by 3, text by 1, both by 0, nothing by 5."""
    n, decoding = 40, Decoding(facts={"mean": 10.0, "deviation": 2.0})
    target = (np.arange(n) - 10.0) / 2
    off = {"": 5, "image": 3, "text": 1, "image+text": 0}
    logits = {subset: (target + by / 2)[:, None] for subset, by in off.items()}
    ids = [f"s{i:02d}" for i in range(n)]
    present = {m: np.ones(n, np.bool_) for m in ("image", "text")}
    scores = Scores("test", ids, target, np.array(ids), present, logits, 0)
    nothing = logits.pop("")
    shuffled = {"image": np.stack([(target + 1)[:, None]])}  # off by 2
    found = importance.measure(
        load("regress"),
        decoding,
        importance.Evidence(scores, nothing, shuffled),
        {i: repr(float(value)) for i, value in zip(ids, range(n), strict=True)},
        resamples=50,
    )
    image, text = found["importance"]
    assert image["shapley"] == pytest.approx(((5 - 3) + (1 - 0)) / 2, abs=1e-5)
    assert text["shapley"] == pytest.approx(((5 - 1) + (3 - 0)) / 2, abs=1e-5)
    assert image["drop"] == pytest.approx(2, abs=1e-5) and "drop" not in text
    assert found["single_gain"]["over"] == "text" and found["single_gain"]["gain"] == pytest.approx(1)


RED, BLUE = 1, 2
UNITS = Units((" red", " blue"))
WRITTEN = Decoding(facts={"units": json.loads(UNITS.to_json())})


def writing(right, n):
    """What a writer tells (N, 1, 2) where the first of `n` answers are right: every other is red."""
    wanted = np.where(np.arange(n) % 2, RED, BLUE)
    given = np.where(np.arange(n) < right, wanted, RED + BLUE - wanted)
    return np.stack([np.full(n, -0.1), given], 1)[:, None]


def test_of_answers_in_words_by_exact_match():
    n, right = 20, {"": 0, "image": 10, "text": 12, "image+text": 20}
    logits = {subset: writing(count, n) for subset, count in right.items()}
    nothing = logits.pop("")
    ids = [f"s{i:02d}" for i in range(n)]
    present = {m: np.ones(n, np.bool_) for m in ("image", "text")}
    cells = {one: "Red!" if i % 2 else "blue" for i, one in enumerate(ids)}
    scores = Scores("test", ids, np.zeros((n, 1)), np.array(ids), present, logits, 0, list(cells.values()))
    shuffled = {"text": np.stack([writing(8, n), writing(4, n)])}
    evidence = importance.Evidence(scores, nothing, shuffled)
    found = importance.measure(load("answer"), WRITTEN, evidence, cells, resamples=100)
    image, text = found["importance"]
    assert (image["figure"], image["shapley"], text["shapley"]) == ("exact_match", 0.45, 0.55)
    assert text["drop"] == pytest.approx(1 - 6 / 20) and "drop" not in image
    assert (found["single_gain"]["over"], found["single_gain"]["gain"]) == ("text", 0.4)
    assert importance.warnings(found) == []
    logits["image+text"] = logits["text"]
    same = importance.measure(load("answer"), WRITTEN, evidence, cells, resamples=100)
    assert "best single modality, text: exact_match +0.000" in importance.warnings(same)[0]


LETTERS = units.fit(["ab ba"])  # 1 = space, 2 = a, 3 = b
HEARD = Decoding(
    facts={"units": json.loads(LETTERS.to_json()), "decoding": "beam", "width": 8, "order": 0}
    | {"context_bonus": 1.0}
)


def hearing(words):
    """10 recordings in which "bb" is a little likelier than "ab", as "ab" is said; the last is missing."""
    one = np.full((3, 4), -9.0)
    one[0, [2, 3]] = 1.0, 1.2
    one[1, 0] = one[2, 3] = 3.0
    n = len(words)
    logits = np.repeat(one[None], n, axis=0)
    logits[-1] = np.nan
    ids = [f"s{i:02d}" for i in range(n)]
    subsets = {"audio": logits, "text": logits[:, :0], "audio+text": logits}
    present = {"audio": np.arange(n) < n - 1, "text": np.array([bool(word) for word in words])}
    cells = dict.fromkeys(ids, "ab")
    scores = Scores("test", ids, np.zeros((n, 2)), np.array(ids), present, subsets, 0, ["ab"] * n, words)
    return scores, cells


def test_of_transcripts_what_expected_words_bring_beside_the_recording():
    """9 can be heard: of 6 the right word is expected, of 2 another, of one none."""
    scores, cells = hearing(["ab"] * 6 + ["bb"] * 2 + ["", "ab"])
    task = load("transcribe")
    having = importance.answerable(task, scores) & scores.present["text"]
    assert having.tolist() == [True] * 8 + [False] * 2
    dealt = evaluate.dealt(scores, having, repeats=4)
    assert dealt == evaluate.dealt(scores, having, repeats=4) and dealt[0] != dealt[1]
    assert all(sorted(words[:8]) == ["ab"] * 6 + ["bb"] * 2 and words[8:] == ["", "ab"] for words in dealt)
    dealt = [["bb"] * 2 + ["ab"] * 6 + ["", "ab"], ["ab"] * 3 + ["bb"] * 5 + ["", "ab"]]
    evidence = importance.Evidence(scores, words=dealt)
    found = importance.measure(task, HEARD, evidence, cells, resamples=100)
    [text] = found["importance"]
    assert (text["modality"], text["figure"], text["samples"]) == ("text", "wer", 8)
    assert text["shapley"] == pytest.approx(6 / 9, abs=1e-6)  # the WER is 1 without, 3 / 9 with them
    assert text["drop"] == pytest.approx((2 / 8 + 5 / 8) / 2 - 2 / 8)
    low, high = text["shapley_95"]
    assert 0 < low < 6 / 9 < high <= 1
    assert "single_gain" not in found and importance.warnings(found) == []
    assert len(importance.table(found)[0]["rows"]) == 1
    alone = replace(
        scores, present={"audio": scores.present["audio"]}, logits={"audio": scores.logits["audio"]}
    )
    assert importance.measure(task, HEARD, importance.Evidence(alone), cells, resamples=10) == {}


def test_texts_are_shuffled_less_often():
    assert importance.repeats(load("classify"), 10, 100_000) == 10
    for task in map(load, ("answer", "transcribe")):
        assert [importance.repeats(task, 10, n) for n in (9, 50, 150, 600)] == [10, 10, 3, 1]
        assert importance.repeats(task, 0, 9) == importance.repeats(task, 0, 600) == 0


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    tiny_bundle.write(tmp_path)
    (tmp_path / paths.PARAMS).write_text("evaluate: {bootstrap: 50, threads: 1, permutations: 3}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_shuffled_modality_is_another_samples_and_the_rest_is_ones_own(workspace):
    bundle = load_bundle(paths.BUNDLE)
    features = {m: paths.features(m) for m in schema.MODALITIES}
    data = evaluate.held_out(bundle, features, paths.SPLITS, "test")
    n, everything = len(data), data.batch(np.arange(len(data)))
    found = evaluate.shuffled(bundle.model, data, repeats=3, batch_size=100)
    again = evaluate.shuffled(bundle.model, data, repeats=3, batch_size=100)
    own = evaluate.logits(bundle.model, data, ["audio+image+text"], batch_size=9)["audio+image+text"]
    for m, repeats in found.items():
        assert np.array_equal(repeats, again[m])
        here = everything.present[m].numpy()
        assert here.sum() > 5 and not here.all()
        table = np.zeros((n, n, 3))  # [row, whose modality it has]
        with torch.no_grad():
            for source in np.flatnonzero(here):
                x = everything.inputs[m].clone()
                x[here] = x[source].clone()
                lengths = everything.lengths[m].clone()
                lengths[here] = lengths[source].clone()
                batch = replace(
                    everything,
                    inputs={**everything.inputs, m: x},
                    lengths={**everything.lengths, m: lengths},
                )
                table[:, source] = bundle.model(batch).logits.numpy()
        sources = []
        for repeat in repeats:
            assert repeat[~here] == pytest.approx(own[~here], abs=1e-5)
            near = abs(table - repeat[:, None]).max(2) < 1e-4
            assert near[here].any(1).all()
            sources.append(near[np.ix_(here, here)])
            assert (near[np.ix_(here, here)].sum(0) >= 1).all()  # each one is dealt to somebody
        assert not (sources[0] == sources[1]).all() and not all(np.diag(of).all() for of in sources)


def test_the_stage_writes_it_warns_and_tells_the_report(workspace, capsys):
    stage.main()
    said = capsys.readouterr().out
    found = json.loads((paths.METRICS / "evaluate.json").read_bytes())
    told = json.loads(paths.FINDINGS.read_bytes())
    assert [one["modality"] for one in found["importance"]] == list(schema.MODALITIES)
    assert all({"drop", "drop_95", "shapley_95"} <= one.keys() for one in found["importance"])
    accuracy_of_nothing = found["accuracy"] - sum(one["shapley"] for one in found["importance"])
    assert 0 <= round(accuracy_of_nothing, 5) <= 1
    [part] = [one for one in told["sections"] if one["key"] == "modalities"]
    assert part["blocks"][-1]["caption"].startswith("What each modality does for the accuracy")
    warned = importance.warnings(found)
    assert told["warnings"] == warned and len(warned) == 1  # an untrained network
    assert f"\nwarning: {warned[0]}\n" in said
    paths.PARAMS.write_text("evaluate: {bootstrap: 50, threads: 1, permutations: 0}\n")
    stage.main()
    found = json.loads((paths.METRICS / "evaluate.json").read_bytes())
    assert not any("drop" in one for one in found["importance"])
