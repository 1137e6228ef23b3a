"""When a retraining is started, and never twice for the same data."""

import json

from mmpipe.retrain import watching
from mmpipe.retrain.watching import CRASHES, Found, Import, State

COLUMNS = {"text": "text", "image": "image", "target": "label"}
A, AB = frozenset("a"), frozenset("ab")


def test_samples_are_told_apart_without_reading_them(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n{"image": "p.png", "label": "y"}\n')
    (tmp_path / "p.png").write_bytes(b"1")
    first = watching.samples(tmp_path, COLUMNS)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "b", "label": "x"}\n')
    (tmp_path / "p.png").write_bytes(b"22")
    assert len(first) == 2
    assert len(watching.samples(tmp_path, COLUMNS) - first) == 2  # one is new, one has another file
    assert watching.samples(tmp_path / "none", COLUMNS) == set()


def test_what_a_run_took_or_failed_on_is_not_started_for_again():
    for end in ("done", "failed"):
        after = State().begun("run", AB).settled(end)
        assert (after.seen, after.pending, after.run, after.started) == (AB, frozenset(), "", 1)
        assert Found(AB | {"c"}).news(after) == (1, 0)


def test_what_a_run_could_not_look_at_is_started_for_again():
    state = State(seen=A).begun("run", AB)
    assert state.settled("skipped") == State(seen=A, started=1)
    assert state.settled("crashed") == State(seen=A, started=1, crashes=1)


def test_data_that_crash_every_run_are_given_up():
    state = State()
    for number in range(1, CRASHES + 1):
        assert Found(A).news(state) == (1, 0)
        state = state.begun("run", A).settled("crashed")
        assert (state.crashes, state.started) == (number % CRASHES, number)
    assert Found(A).news(state) == (0, 0)


def test_two_looks_at_once_would_start_the_same_run():
    state = State()
    assert state.key(A) == State().key(A) != state.key(AB)
    again = state.begun("run", A).settled("skipped")
    assert again.key(A) != state.key(A)


def test_imports_count_by_their_files_and_only_once():
    found = Found(A, [Import("data/raw/x.dvc", "abc", 3), Import("data/raw/y.dvc", "def", 2)])
    assert found.news(State()) == (1, 5)
    assert found.news(State(seen=frozenset({"data/raw/x.dvc abc"}))) == (1, 2)
    assert found.news(State().begun("run", found.all).settled("done")) == (0, 0)
    later = Found(A, [Import("data/raw/x.dvc", "abd", 1)])
    assert later.news(State(seen=found.all)) == (0, 1)


def test_the_state_is_kept(tmp_path):
    assert watching.read(tmp_path) == State()
    state = State(seen=A).begun("one", AB)
    watching.write(tmp_path, state)
    assert watching.read(tmp_path) == state
    assert json.loads((tmp_path / watching.STATE).read_bytes())["pending"] == ["a", "b"]
