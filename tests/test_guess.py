"""A first guess of what a table is for: transcripts of recordings, answers to questions, or labels."""

import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import spoken
import squares
from media import png, wav
from typer.testing import CliRunner

from mmpipe import guess, guess_task, init, params
from mmpipe.cli import app
from mmpipe.errors import InvalidError

SENTENCES = [
    f"the {what} is {how} today" for what in ("sea", "sky", "road", "tea") for how in ("red", "hot", "wet")
]
"""Twelve."""


@pytest.fixture
def no_programs(monkeypatch):
    monkeypatch.setattr(init, "_version_control", lambda root: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve pictures and twelve recordings."""
    root = tmp_path_factory.mktemp("files")
    for n in range(12):
        (root / f"{n}.png").write_bytes(png(20, 20, seed=n))
        (root / f"{n}.wav").write_bytes(wav(seconds=0.1, seed=n))
    return root


PICTURES, SOUNDS = ([f"{n}.{kind}" for n in range(12)] for kind in ("png", "wav"))
ASKED, TOLD = ["what is it?", "how many?"] * 6, ["cat", "two", "red", "two"] * 3
CLASSES, YES = ["a", "b"] * 6, ["yes", "no"] * 6
WORDS = [f"word{n}" for n in range(12)]
TURNS = [json.dumps([["is it big?", "no"]] * (n % 4)) for n in range(12)]


def guessed(folder, columns, target=None):
    """The task, and the columns that have a meaning."""
    found = guess.columns(columns, folder, target=target)
    task = guess_task.of(found, columns[found["target"]])
    return task, {key: name for key, name in found.items() if name}


@pytest.mark.parametrize(
    ("columns", "task", "meanings"),
    [
        ({"clip": SOUNDS, "transcript": SENTENCES}, "transcribe", {"audio": "clip", "target": "transcript"}),
        ({"path": SOUNDS, "Sentence": SENTENCES, "gender": CLASSES}, "transcribe", {"target": "Sentence"}),
        ({"path": SOUNDS, "text": SENTENCES}, "transcribe", {"target": "text", "text": None}),
        ({"path": SOUNDS, "said": SENTENCES, "speaker_id": CLASSES}, "transcribe", {"group": "speaker_id"}),
        ({"path": SOUNDS, "target": SENTENCES}, "transcribe", {"target": "target"}),
        (
            {"path": SOUNDS, "text": SENTENCES, "mood": CLASSES},
            "classify",
            {"target": "mood", "text": "text"},
        ),
        ({"path": SOUNDS, "transcript": SENTENCES, "label": CLASSES}, "classify", {"text": "transcript"}),
        ({"path": SOUNDS, "transcript": ["yes", "no"] * 6}, "classify", {"target": "transcript"}),
        ({"s": SOUNDS, "p": PICTURES, "transcript": SENTENCES, "kind": CLASSES}, "classify", {"image": "p"}),
        (
            {"photo": PICTURES, "question": ASKED, "answer": TOLD},
            "answer",
            {"image": "photo", "text": "question", "target": "answer", "history": None},
        ),
        (
            {"photo": PICTURES, "question": ASKED, "answer": TOLD, "before": TURNS, "category": CLASSES},
            "answer",
            {"history": "before", "target": "answer"},
        ),
        (
            {"photo": PICTURES, "text": ASKED, "Reply": SENTENCES},
            "answer",
            {"text": "text", "target": "Reply"},
        ),
        ({"text": ASKED, "response": WORDS}, "answer", {"text": "text", "target": "response"}),
        ({"text": ASKED, "response": YES}, "classify", {"text": "text", "target": "response"}),
        ({"photo": PICTURES, "text": ASKED, "Reply": YES}, "classify", {"text": "text", "target": "Reply"}),
        ({"text": SENTENCES, "answer": YES}, "answer", {"text": "text", "target": "answer"}),
        ({"Question": SENTENCES, "response": YES}, "answer", {"text": "Question", "target": "response"}),
        ({"clip": SOUNDS, "question": ASKED, "answer": SENTENCES}, "answer", {"audio": "clip"}),
        ({"question": SENTENCES, "answer": TOLD}, "answer", {"text": "question"}),
        ({"question": SENTENCES, "answer": TOLD, "label": CLASSES}, "classify", {"target": "label"}),
        ({"photo": PICTURES, "question": ASKED, "label": CLASSES}, "classify", {"text": "question"}),
        ({"photo": PICTURES, "text": ASKED, "label": CLASSES, "h": TURNS}, "classify", {"history": "h"}),
    ],
)
def test_a_table_says_what_it_is_for(folder, columns, task, meanings):
    found, known = guessed(folder, columns)
    assert found == task
    assert {key: known.get(key) for key in meanings} == meanings


def test_the_target_that_is_named_decides(folder):
    columns = {
        "photo": PICTURES,
        "clip": SOUNDS,
        "caption": SENTENCES,
        "question": ASKED,
        "answer": TOLD,
        "mood": CLASSES,
    }
    tasks = {name: guessed(folder, columns, name) for name in ("caption", "answer", "mood")}
    assert {name: task for name, (task, _) in tasks.items()} == {
        "caption": "transcribe",
        "answer": "answer",
        "mood": "classify",
    }
    assert set(tasks["caption"][1]) == {"audio", "target"}
    assert tasks["answer"][1]["text"] == "question"
    captions = {"photo": PICTURES, "caption": SENTENCES}
    assert guessed(folder, captions, "caption")[0] == "answer"
    with pytest.raises(InvalidError, match="name it by --target"):
        guessed(folder, captions)


@pytest.mark.parametrize(
    "cells",
    [
        ["light green", "dark red"] * 6,
        [f"red {n}; blue" for n in range(12)],
        [f'["red", "blue {n}"]' for n in range(12)],
        SENTENCES[:10],
        WORDS,
    ],
)
def test_what_may_be_names_of_classes_is_no_text(cells):
    assert guess_task.of({"audio": "clip", "target": "y"}, cells) == "classify"
    assert guess_task.of({"audio": "clip", "target": "y"}, SENTENCES) == "transcribe"


def made(tmp_path, *arguments):
    done = CliRunner().invoke(
        app, ["init", str(tmp_path / "w"), *map(str, arguments)], catch_exceptions=False
    )
    return params.load(tmp_path / "w/params.yaml"), done.stdout


def test_recordings_and_what_is_said_in_them_are_a_workspace_of_transcribe(tmp_path, no_programs):
    """Read back, so that every value goes with the task."""
    spoken.write(tmp_path / "raw")
    table = tmp_path / "raw/manifest.csv"
    table.write_text(table.read_text().replace("words,said", "words,transcription", 1))
    found, told = made(tmp_path, "--from", table)
    assert (found.model.task, found.data.target) == ("transcribe", "text")
    assert found.data.columns.target == "transcription"
    assert found.model.encoders == ["audio"] and found.data.columns.text is None
    assert found.split.group_identical_target and found.train.modality_dropout == 0
    assert "60 rows: 57 with audio; the target is what is said in the recording" in told


def test_pictures_questions_and_answers_are_a_workspace_of_answer(tmp_path, no_programs):
    """A dialogue keeps as many turns as nearly all have, and its texts are as long as with these."""
    rows = squares.write(tmp_path / "s")
    found, told = made(tmp_path, "--from", tmp_path / "s/data/raw")
    columns = found.data.columns
    assert (found.model.task, found.data.target) == ("answer", "text")
    assert (columns.image, columns.text, columns.history, columns.target) == (
        "image",
        "text",
        "history",
        "answer",
    )
    assert found.text.turns == 1 and found.text.max_tokens == 32
    assert not found.split.group_identical_text and found.model.decoder.longest == 16
    assert f"{len(rows)} rows: 72 with image, 72 with text; the target is an answer in words" in told


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_turns_are_known_in_every_kind_of_table(tmp_path, folder, no_programs, ending):
    rows = [
        {"photo": str(folder / name), "question": asked, "before": turn, "answer": told}
        for name, asked, turn, told in zip(PICTURES, ASKED, TURNS, TOLD, strict=True)
    ]
    for row in rows:
        (tmp_path / "t").mkdir(exist_ok=True)
        name = row["photo"].rpartition("/")[2]
        (tmp_path / "t" / name).write_bytes((folder / name).read_bytes())
        row["photo"] = name
    table = tmp_path / f"t/rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif ending == "jsonl":
        table.write_text("\n".join(json.dumps(row | {"before": json.loads(row["before"])}) for row in rows))
    else:
        pa.csv.write_csv(pa.Table.from_pylist(rows), table)
    found, _ = made(tmp_path, "--from", table)
    assert (found.data.columns.history, found.text.turns, found.model.task) == ("before", 3, "answer")
