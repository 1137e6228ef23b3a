"""A row that ingest would put aside is refused, for the same reason, whatever else is wrong with it."""

import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import soundfile
import tiny_bundle
from bad_folder import BAD, PNG, WAV

from mmpipe.features import text
from mmpipe.inspection import Fault, Limits, inspect
from mmpipe.preprocess import Preprocessor, Refusal
from mmpipe.row import Row

GOOD = {"image": PNG, "text_path": b"some words", "audio": WAV}
NAMES = ("good", "bad", "missing", "../out", "%2e%2e/out", None)


@pytest.fixture(scope="module")
def preprocessor():
    tokenizer = text.fit(tiny_bundle.WORDS, vocab_size=300, lowercase=True)
    return Preprocessor(tiny_bundle.SETTINGS, tokenizer)


@pytest.fixture
def folder(tmp_path):
    """One good and one bad file of each modality, and one beside the folder."""
    (tmp_path / "data").mkdir()
    bad = {column: data for column, data, _ in BAD.values() if data}
    for column, data in GOOD.items():
        (tmp_path / "data" / f"{column} good").write_bytes(data)
        (tmp_path / "data" / f"{column} bad").write_bytes(bad[column])
    (tmp_path / "out").write_bytes(b"secret")
    return tmp_path / "data"


def cell(column, name):
    return f"{column} {name}" if name in ("good", "bad", "missing") else name


def test_the_first_of_several_faults_is_that_of_ingest(folder, preprocessor):
    seen = set()
    for number, names in enumerate(product(NAMES, repeat=3), 1):
        cells = {column: cell(column, name) for column, name in zip(GOOD, names, strict=True)}
        row = Row("m.csv", number, folder, f"row {number}", **cells)
        judged, made = inspect(row, Limits()), preprocessor.of_row(row)
        if isinstance(judged, Fault):
            assert (made.code, made.what, made.modality) == (judged.code, judged.what, judged.modality), names
            seen.add((judged.modality, judged.code))
        elif judged == {"warnings": []}:
            assert made.code == "row-empty" and set(names) == {None}
        else:
            assert not isinstance(made, Refusal) and len(made) == 3 - names.count(None)
    assert len(seen) == 9


@pytest.mark.parametrize("words", [None, " \n\t", "x" * 100_001, "a\0b", "\ud800", "\ufeff", "fine"])
def test_a_text_in_a_cell_is_judged_as_ingest_judges_it(folder, preprocessor, words):
    row = Row("m.csv", 1, folder, "row", text=words)
    judged, made = inspect(row, Limits()), preprocessor.of_row(row)
    if isinstance(judged, Fault):
        assert (made.code, made.what, made.modality) == (judged.code, judged.what, judged.modality)
    elif "text" in judged:
        assert list(made) == ["text"]
    else:
        assert made.code == "row-empty"


def test_only_what_the_model_takes_is_judged(folder, preprocessor):
    row = Row("m.csv", 1, folder, "row", image="image bad", text="words")
    assert preprocessor.of_row(row).modality == "image"
    settings = {"text": tiny_bundle.SETTINGS["text"]}
    assert list(Preprocessor(settings, preprocessor.tokenizer).of_row(row)) == ["text"]


def flac(samples):
    out = io.BytesIO()
    soundfile.write(out, samples, 8_000, format="FLAC")
    return out.getvalue()


@pytest.mark.parametrize("seconds", [1, 5, 601])
@pytest.mark.parametrize("share", [1, 0.9])
def test_a_recording_is_judged_to_its_end(folder, preprocessor, seconds, share):
    """The model takes the first two seconds of it."""
    data = flac(np.random.default_rng(0).normal(0, 0.1, 8_000 * seconds))
    (folder / "sound").write_bytes(data[: int(len(data) * share)])
    row = Row("m.csv", 1, folder, "row", audio="sound")
    judged, made = inspect(row, Limits()), preprocessor.of_row(row)
    trusted = replace(preprocessor, judged=True).of_row(row)
    if seconds < 600 and share == 1:
        assert np.array_equal(made["audio"], trusted["audio"])
    else:
        assert isinstance(judged, Fault) and (made.code, made.what) == (judged.code, judged.what)
        assert isinstance(trusted, Refusal) == (seconds == 1)


def test_earlier_turns_come_before_the_text_of_a_row_as_ingest_has_it(folder, preprocessor):
    (folder / "asked").write_text("how?")
    before = '[["what is it?", "a cat"]]'
    for cells in ({"text": "how?"}, {"text_path": "asked"}):
        row = Row("m.csv", 1, folder, "row", history=before, **cells)
        facts, made = inspect(row, Limits()), preprocessor.of_row(row)
        assert facts["text"] == "Q: what is it? A: a cat\nQ: how?"
        assert np.array_equal(made["text"], preprocessor.feature("text", facts["text"]))
        assert not np.array_equal(made["text"], preprocessor.feature("text", "how?"))
    nothing = Row("m.csv", 1, folder, "row", history=before)
    assert preprocessor.of_row(nothing).code == "row-empty" and inspect(nothing, Limits()) == {"warnings": []}


def test_of_a_dialogue_the_model_reads_as_many_turns_as_in_training(preprocessor):
    settings = preprocessor.settings | {"text": {"max_tokens": 99, "turns": 0}}
    short = replace(preprocessor, settings=settings)
    told = "Q: one two? A: two\nQ: three?"
    assert np.array_equal(short.feature("text", told), short.feature("text", "Q: three?"))
