"""What `mmpipe ui` does with a child that goes away again and again."""

import os
import sys
import time

import pytest

from flows import server
from mmpipe.errors import InvalidError, MmpipeError


@pytest.fixture
def child(tmp_path, monkeypatch):
    """It has gone away as often as may be, and once more."""
    monkeypatch.setattr(server.time, "sleep", lambda _: None)
    found = server.Child("the server", [sys.executable, "-c", "pass"], os.environ, tmp_path / "log")
    found.start()
    found.process.wait()
    found.ended = [time.monotonic()] * server.RESTARTS
    yield found
    found.stop()


def test_it_gives_up_where_nothing_runs(child):
    with pytest.raises(MmpipeError, match="the server ended 6 times, last with 0"):
        child.check(lambda: False)


def test_it_does_not_while_a_run_is_in_progress(child):
    first = child.process.pid
    child.check(lambda: True)
    assert child.process.pid != first


@pytest.mark.parametrize("name", ["flows/__init__.py", "flows.py"])
def test_a_module_that_would_be_taken_for_ours_is_told(tmp_path, name):
    server._check_names(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(InvalidError, match=r"name-taken .*flows.*hides the package"):
        server._check_names(tmp_path)
