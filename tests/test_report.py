"""The page: complete, same bytes every time, nothing outside it, and nothing of a stranger's runs in it."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from mmpipe import charts, embed, report, schema, scorecard
from mmpipe.errors import NotFoundError, SampleError
from mmpipe.tasks.classify import TASK
from mmpipe.tasks.task import Asked, Decoding

EVIL = '<script>alert("x")</script>'
BIDI = "safe\u202etxt.exe\u2066"
LABELS = ["cat", EVIL, "$\\frac{a}$ =1+1"]


def scores(rng: np.random.Generator, count: int, split: str = "test") -> scorecard.Scores:
    """Three modalities that agree with the target to different degrees."""
    target = rng.integers(0, len(LABELS), count)
    present = {m: rng.random(count) < 0.8 for m in schema.MODALITIES}
    present["text"] |= ~present["image"] & ~present["audio"]
    logits = {
        name: rng.normal(0, 1, (count, len(LABELS)))
        + 1.2 * np.eye(len(LABELS))[target] * len(name.split("+"))
        for name in scorecard.subsets_of(schema.MODALITIES)
    }
    ids = [f"{split}-{n:03d}{EVIL if n % 5 == 0 else ''}" for n in range(count)]
    return scorecard.Scores(split, ids, target, np.array(ids), present, logits, dropped=1)


def picture(rng: np.random.Generator) -> bytes:
    return cv2.imencode(".png", rng.integers(0, 255, (300, 200, 3), np.uint8))[1].tobytes()


def sound(rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, rng.normal(0, 0.1, 4000), 8000, format="OGG")
    return out.getvalue()


def tables(root: Path, rng: np.random.Generator, *parts: scorecard.Scores) -> tuple[pa.Table, pa.Table]:
    """`schema.SAMPLES` with real files below `root`, and `schema.SPLIT`."""
    samples, splits = [], []
    for part in parts:
        for n, (name, target) in enumerate(zip(part.ids, part.target, strict=True)):
            row = dict.fromkeys(schema.SAMPLES.names) | {"id": name, "source": "m.csv:1", "warnings": []}
            row["target"] = LABELS[target]
            if part.present["image"][n]:
                (root / f"{part.split}{n}.png").write_bytes(picture(rng))
                row |= {"image_path": f"{part.split}{n}.png", "image_sha256": "0"}
                row |= {"image_width": 200, "image_height": 300 + n}
            if part.present["audio"][n]:
                (root / f"{part.split}{n}.ogg").write_bytes(sound(rng))
                row |= {
                    "audio_path": f"{part.split}{n}.ogg",
                    "audio_sha256": "0",
                    "audio_duration_s": 0.5 + n,
                }
            if part.present["text"][n]:
                row |= {"text": f"{EVIL} {BIDI} number {n}", "text_sha256": "0"}
            samples.append(row)
            splits.append({"id": name, "split": part.split, "group": name, "target": row["target"]})
    return pa.Table.from_pylist(samples, schema.SAMPLES), pa.Table.from_pylist(splits, schema.SPLIT)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> report.Inputs:
    root = tmp_path_factory.mktemp("workspace")
    rng = np.random.default_rng(0)
    test, val = scores(rng, 60), scores(rng, 20, "val")
    samples, splits = tables(root, rng, test, val)
    aside = {"id": "x", "source": "m.csv", "modality": "image", "sha256": None, "message": f"is {EVIL}"}
    codes = ["image-damaged", "image-damaged", "row-duplicate"]
    rows = [aside | {"row": n, "code": code} for n, code in enumerate(codes)]
    found = scorecard.measure(test, LABELS, temperature=1.7, resamples=100, bins=15)
    decoding = Decoding(LABELS, 1.7)
    told = TASK.findings(found, TASK.predictions([val, test], decoding), decoding)
    steps = [float(n) for n in range(5)]
    return report.Inputs(
        root=root,
        samples=samples,
        quarantine=pa.Table.from_pylist(rows, schema.QUARANTINE),
        splits=splits,
        findings=json.loads(json.dumps(told)),
        evaluation=json.loads(json.dumps(found)),
        training={"epochs": 5, "val_loss": 0.5},
        curves={"train_loss": (steps, steps), "val_loss": (steps, steps), "learning_rate": (steps, steps)},
        config={
            "architecture": {"modalities": list(schema.MODALITIES)},
            "labels": LABELS,
            "data_sha256": "ab12",
            "params": {"train": {"lr": 0.001, "note": EVIL}},
        },
    )


@pytest.fixture(scope="module")
def page(inputs) -> str:
    return report.render(inputs, examples=4)


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "path", "use", "rect", "!doctype"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_nothing_outside_the_page_is_loaded(page):
    found = Elements(page)
    loading = ("src", "href", "srcset", "poster", "data", "action", "background", "xlink:href")
    targets = [attributes[name] for _, attributes in found.tags for name in loading if name in attributes]
    assert len(targets) > 20
    assert [t for t in targets if not re.match(r"#|data:(image/jpeg|audio/ogg);base64,", t)] == []
    rest = re.sub(r'base64,[^"]*', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", rest)


def test_nothing_runs(page):
    found = Elements(page)
    assert not {"script", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert found.open == []  # what strangers wrote closed none of our elements
    assert "".join(found.words).count(EVIL) >= 9  # in labels, ids, texts, messages: all as words


def test_reordering_characters_are_written_out(page):
    assert not set("\u202e\u2066\x1b") & set(page)
    assert "safe⟨U+202E⟩txt.exe⟨U+2066⟩" in page


def test_says_what_was_measured(page, inputs):
    words = re.sub(r"\s+", " ", "".join(Elements(page).words))
    found = inputs.evaluation
    assert f"{100 * found['accuracy']:.1f} %" in words
    assert f"{100 * found['accuracy_low']:.1f} – {100 * found['accuracy_high']:.1f} %" in words
    assert "83 rows in = 80 kept + 2 quarantined + 1 duplicates" in words
    assert "fusion " in words.lower()
    assert found["fusion_gain"]["over"] in words
    for word in (
        "image-damaged",
        "restore the file from its source",
        "train.lr",
        "0.001",
        "ab12",
        "learning rate",
    ):
        assert word in words


def test_rare_classes_have_their_section(inputs, page):
    assert "Rare classes" not in page  # this training says nothing of them
    rows = [
        {"label": label, "train": 40 - 9 * n, "share": 0.4, "counted_share": 0.25, "offset": n / 4}
        for n, label in enumerate(LABELS)
    ]
    params = {"train": {"class_weights": "none"}, "objective": {"logit_adjustment": 1.5, "focal": 0.0}}
    told = replace(inputs, training={"classes": rows}, config={**inputs.config, "params": params})
    words = " ".join(" ".join(Elements(report.render(told, examples=0)).words).split())
    section = words[words.index("The commonest class") : words.index("Samples of the test split")]
    assert f"has 40 train samples, the rarest {40 - 9 * (len(LABELS) - 1)}" in section
    assert "logit adjustment (τ = 1.5)" in section and "class weights" not in section
    recall = {row["label"]: row["recall"] for row in inputs.evaluation["per_class"]}
    assert f"31 40.0 % 25.0 % +0.25 {100 * recall[LABELS[1]]:.1f} %" in section
    assert "correction taken out" not in section and "The offset of all classes is 0" in section


def test_rare_classes_are_shown_beside_what_the_model_says_without_the_correction(inputs):
    labels = [
        {"label": label, "train": 40 - 9 * n, "share": 0.4, "counted_share": 0.25, "offset": n / 4}
        for n, label in enumerate(LABELS)
    ]
    tested = [{**row, "recall_uncorrected": 0.125} for row in inputs.evaluation["per_class"]]
    evaluation = {**inputs.evaluation, "per_class": tested}

    def as_sets(splits):
        cells = pa.array([json.dumps([cell]) for cell in splits["target"].to_pylist()])
        return splits.set_column(splits.column_names.index("target"), "target", cells)

    def section(goal, kind="label", rows=tested):
        params = {"train": {"class_weights": "inverse"}, "objective": goal}
        told = replace(
            inputs,
            training={"classes": labels},
            evaluation={**evaluation, "per_class": rows},
            findings={**inputs.findings, "kind": kind},
            splits=inputs.splits if kind == "label" else as_sets(inputs.splits),
            config={**inputs.config, "params": params},
        )
        words = " ".join(" ".join(Elements(report.render(told, examples=0)).words).split())
        return words[words.index("The commonest") : words.index("Samples of the test split")]

    words = section({"focal": 0.0})
    assert "approximates a run without it" in words and "closed form" not in words
    assert "recall, correction taken out: 12.5 % of the rarer half of the classes, 12.5 % of the" in words
    assert f"+0.25 {100 * tested[1]['recall']:.1f} % 12.5 % {tested[1]['support']}" in words
    assert "Focal loss has no such closed form and stays in" in section({"focal": 2.0})
    several = [{**row, "recall_at_half": 0.5, "recall_at_half_uncorrected": 0.25} for row in tested]
    several = [{key: row[key] for key in row if key != "recall_uncorrected"} for row in several]
    words = section({}, "labels", several)
    assert f"{100 * tested[1]['recall']:.1f} % 50.0 % 25.0 % {tested[1]['support']}" in words
    assert "the positives of a label weigh as much as its negatives" in words
    assert "it is likelier than not" in words


def test_same_inputs_same_bytes(page, inputs):
    assert report.render(inputs, examples=4) == page
    assert not re.search(r"20\d\d-\d\d-\d\d", page)


def test_the_calibration_is_drawn_in_the_bins_it_was_measured_in():
    rng = np.random.default_rng(0)
    test = scores(rng, 60)
    decoding = Decoding(LABELS, 1.7)

    def steps(bins):  # of the histogram: one up or down and one along for each bin
        found = TASK.measure(test, decoding, Asked(20, bins))
        told = TASK.findings(found, TASK.predictions([test], decoding), decoding)
        [part] = [part for part in told["sections"] if part["key"] == "calibration"]
        [line] = re.findall(r'd="(M[^"]*)"[^>]*stroke-width: 1.4', report.draw(part["blocks"][0]))[:1]
        return line.count("L")

    assert steps(15) - steps(4) == 2 * 11


def test_every_picture_and_chart_has_a_name(page):
    found = Elements(page).tags
    pictures = [attributes.get("alt") for tag, attributes in found if tag == "img"]
    drawings = [attributes.get("aria-label") for tag, attributes in found if tag == "svg"]
    assert pictures and all(pictures)
    assert len(drawings) == 9 and all(drawings)


def test_gallery_shows_the_surest(inputs):
    rng = np.random.default_rng(0)
    decoding = Decoding(LABELS, 1.7)
    rows = [r for r in TASK.predictions([scores(rng, 60)], decoding).to_pylist() if r["split"] == "test"]
    for part in inputs.findings["exhibits"]:
        shown = report.gallery.choose(part["items"], inputs.samples, inputs.root, count=4)
        some = [r for r in rows if (r["prediction"] == r["target"]) == part["good"]]
        surest = sorted(some, key=lambda r: (-r["confidence"], r["id"]))[:4]
        assert [item.id for item in shown] == [r["id"] for r in surest]
        assert [item.note for item in shown] == [f"{100 * r['confidence']:.1f} %" for r in surest]
        assert all((item.actual is None) == part["good"] for item in shown)
        assert any(item.picture for item in shown) and any(item.sound for item in shown)


def test_sound_is_the_files_own_bytes_when_small(tmp_path):
    data = sound(np.random.default_rng(1))
    (tmp_path / "a.mp3").write_bytes(data)  # a wrong name: the bytes say what it is
    uri = embed.sound(tmp_path / "a.mp3", max_bytes=len(data))
    assert uri == "data:audio/ogg;base64," + base64.b64encode(data).decode()
    with pytest.raises(SampleError, match="file-too-large"):
        embed.sound(tmp_path / "a.mp3", max_bytes=len(data) - 1)


def test_picture_is_made_anew_and_small(tmp_path):
    data = picture(np.random.default_rng(2))
    (tmp_path / "a.png").write_bytes(data)
    encoded = base64.b64decode(
        embed.picture(tmp_path / "a.png", side=50).removeprefix("data:image/jpeg;base64,")
    )
    assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape == (50, 33, 3)


def test_visible_keeps_scripts_and_marks_tricks():
    family = "👩\u200d👧 naïve עברית"
    assert embed.visible(family) == family
    assert embed.visible("a\x1b[31m\u200b") == "a⟨U+001B⟩[31m⟨U+200B⟩"
    assert embed.visible("x" * 20, 10) == "x" * 10 + " …"


def test_a_file_that_is_gone_is_said(inputs, tmp_path):
    items = [item for part in inputs.findings["exhibits"] for item in part["items"]]
    shown = report.gallery.choose(items, inputs.samples, tmp_path, count=8)
    assert any(item.picture_note and "does not exist" in item.picture_note for item in shown)


def test_charts_cope_with_one_value_and_many_classes():
    assert charts.histogram([3.0], xlabel="x", title="one").count("<svg") == 1
    assert charts.histogram([1.0, 10.0, 1e6], xlabel="x", title="wide", log=True).count("1,000") == 1
    assert charts.heat_map(np.zeros((2, 2), int), ["a", "b"], title="none").count("<svg") == 1


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"samples\.parquet"):
        report.read(tmp_path)


def test_curves_are_read_from_dvclive(tmp_path):
    (tmp_path / "train_loss.tsv").write_text("step\ttrain_loss\n0\t1.5\n1\t0.5\n")
    assert report.read_curves(tmp_path) == {"train_loss": ([0.0, 1.0], [1.5, 0.5])}
