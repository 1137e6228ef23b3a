"""Worker processes: results, order, deaths, hangs, exceptions, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpipe.errors import SampleError, UsageError
from mmpipe.executors import Beat, Dead, Done, crew, run, worker_count


def square(items, beat: Beat):
    """One result an item; some items misbehave."""
    found = []
    for index, item in enumerate(items):
        beat(index)
        if item == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif item == "exit":
            os._exit(3)
        elif item == "hang":
            time.sleep(60)
        elif item == "bug":
            raise ValueError("a bug in the function")
        elif item == "bad":
            raise SampleError("file-empty", "empty (0 bytes)")
        else:
            found.append((item, item * item))
    return found


def pid_and_threads(items, beat: Beat):
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def square_and_pid(items, beat: Beat):
    return items[0] ** 2, os.getpid()


def slow(items, beat: Beat):
    Path(items[0]).write_text(str(os.getpid()))
    time.sleep(60)


def collect(shards, *, workers=2, timeout_s=20.0):
    """item → outcome"""
    results, dead = {}, {}
    for outcome in run(square, shards, workers=workers, timeout_s=timeout_s):
        if isinstance(outcome, Done):
            results.update(outcome.result)
        else:
            dead[outcome.item] = outcome
    return results, dead


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_any_number_of_workers_gives_the_same_results():
    shards = [list(range(start, start + 5)) for start in range(0, 30, 5)]
    one, three = collect(shards, workers=1), collect(shards, workers=3)
    assert one == three == ({n: n * n for n in range(30)}, {})


def test_nothing_to_do_starts_nothing():
    assert list(run(square, [], timeout_s=1)) == []
    assert list(run(square, [[], ()], timeout_s=1)) == []


def test_a_death_costs_one_item():
    results, dead = collect([[1, 2, "crash", 3], [4], ["exit", 5], [6, "crash"]])
    assert results == {n: n * n for n in (1, 2, 3, 4, 5, 6)}
    assert dead["crash"] == Dead("crash", "worker-died", "the worker process was ended by SIGSEGV")
    assert dead["exit"] == Dead("exit", "worker-died", "the worker process ended with status 3")


def test_a_hang_is_ended_after_its_budget():
    start = time.monotonic()
    results, dead = collect([[1, "hang", 2], [3]], timeout_s=0.7)
    assert results == {n: n * n for n in (1, 2, 3)}
    assert dead["hang"] == Dead("hang", "worker-timeout", "took longer than 0.7 s")
    assert time.monotonic() - start < 15


def test_a_bug_is_raised_with_the_workers_traceback():
    with pytest.raises(ValueError, match="a bug in the function") as caught:
        collect([[1], ["bug"], [2]])
    assert 'raise ValueError("a bug in the function")' in str(caught.value.__cause__)


def test_our_own_errors_survive_the_way_to_the_parent():
    with pytest.raises(SampleError, match=r"^file-empty empty") as caught:
        collect([["bad"]])
    assert caught.value.code == "file-empty"


def test_workers_compute_in_one_thread_and_the_parent_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (done,) = run(pid_and_threads, [[1]], timeout_s=20)
    assert isinstance(done, Done)
    assert done.result[1] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_crew_keeps_its_workers_from_call_to_call_and_ends_them():
    with crew(square_and_pid, workers=1, timeout_s=20) as mapped:
        (one,), (two,) = list(mapped([[2]])), list(mapped([[3]]))
        assert (one.result[0], two.result[0]) == (4, 9)
        assert one.result[1] == two.result[1] and alive(one.result[1])
        assert list(mapped([])) == []
        os.kill(one.result[1], signal.SIGKILL)  # while it is idle
        assert gone(one.result[1])
        (three,) = list(mapped([[5]]))
        assert three.result[0] == 25
    assert gone(three.result[1])


def test_closing_early_leaves_no_worker():
    outcomes = run(pid_and_threads, [[n] for n in range(8)], workers=2, timeout_s=20)
    first = next(outcomes)
    assert isinstance(first, Done)
    assert alive(first.result[0])
    outcomes.close()
    assert gone(first.result[0])


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_workers_die_with_their_parent(tmp_path, signum):
    note = tmp_path / "pid"
    code = f"import test_executors as t\nlist(t.run(t.slow, [[{str(note)!r}]], workers=1, timeout_s=50))"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 20
    while not (note.exists() and note.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    pid = int(note.read_text())
    assert alive(pid)
    parent.send_signal(signum)
    parent.wait(5)
    assert gone(pid)


def test_the_environment_decides_how_many(monkeypatch):
    monkeypatch.setenv("MMPIPE_WORKERS", "5")
    assert worker_count() == 5
    monkeypatch.setenv("MMPIPE_WORKERS", "many")
    with pytest.raises(UsageError, match="'many'"):
        worker_count()
    monkeypatch.delenv("MMPIPE_WORKERS")
    assert worker_count() == len(os.sched_getaffinity(0))
