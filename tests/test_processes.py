"""Real processes: living, ended, unreaped, and when they began."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpipe import processes


@pytest.fixture
def process():
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, stderr=subprocess.DEVNULL)
    yield started
    started.kill()
    started.communicate()


def test_who_lives(process):
    assert processes.alive(os.getpid()) and processes.alive(1) and processes.alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()  # not reaped yet
    assert not processes.alive(process.pid)
    process.wait()
    assert not processes.alive(process.pid)


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 70])
def test_what_is_no_number_of_a_process_does_not_live(pid):
    assert not processes.alive(pid)


def test_when_one_began(process):
    assert processes.began(process.pid) == pytest.approx(time.time(), abs=20)
    assert processes.began(1) < processes.began(os.getpid()) <= processes.began(process.pid)
    assert processes.began(1 << 31) is None


def test_a_name_with_brackets_and_blanks_misleads_nobody(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([odd, "-c", "input()"], stdin=-1, stderr=subprocess.DEVNULL)
    try:
        assert processes.alive(process.pid)
        assert processes.began(process.pid) == pytest.approx(time.time(), abs=20)
    finally:
        process.communicate()
