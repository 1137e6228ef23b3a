import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retrained import call

from mmpipe.processes import alive
from mmpipe.retrain import apart, children, lock

FAMILY = """
import signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("up", child.pid, flush=True)
time.sleep(60)
"""


def stream(code, *words, cwd, say, **options):
    return children.stream(
        [sys.executable, "-c", code, *words], cwd=cwd, environment={"MARK": "1"}, say=say, **options
    )


def test_lines_come_as_they_are_printed_whatever_they_end_with(tmp_path):
    said = []
    code = """
import os, sys
print("one\\n50 %\\r100 %", flush=True)
sys.stderr.write(os.environ["MARK"])
sys.exit(3)
"""
    assert call(stream, code, cwd=tmp_path, say=said.append) == 3
    assert said == ["one", "50 %", "100 %", "1"]


def test_a_line_without_end_and_broken_utf8_do_no_harm(tmp_path):
    said = []
    code = "import sys; sys.stdout.buffer.write(b'x' * 25_000 + b'\\xc3\\n' + 'é'.encode())"
    assert call(stream, code, cwd=tmp_path, say=said.append) == 0
    assert [len(line) for line in said] == [10_000, 10_000, 5_001, 1]
    assert said[-1] == "é"


def test_output_goes_to_a_file_and_only_stderr_is_told(tmp_path):
    said = []
    code = "import sys; print('answer'); print('words', file=sys.stderr)"
    assert call(stream, code, cwd=tmp_path, say=said.append, output=tmp_path / "out") == 0
    assert said == ["words"] and (tmp_path / "out").read_text() == "answer\n"


@pytest.mark.parametrize("kind", ["meek", "stubborn"])
def test_cancelled_the_whole_group_is_gone(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(children, "PATIENCE_S", 0.5)
    said = []

    async def cancel():
        task = asyncio.create_task(stream(FAMILY, kind, cwd=tmp_path, say=said.append))
        while not said:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    started = time.monotonic()
    call(cancel)
    assert time.monotonic() - started < 10
    assert not alive(int(said[0].split()[1]))
    assert children.marked("MARK", "1") == []


def test_a_child_that_outlives_the_program_is_ended_too(tmp_path):
    said = []
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    assert call(stream, code, cwd=tmp_path, say=said.append) == 0
    assert not alive(int(said[0]))


def test_a_mark_in_the_environment_finds_a_process(tmp_path):
    value = f"{tmp_path}-{os.getpid()}"

    async def look():
        process = await asyncio.create_subprocess_exec("sleep", "60", env={**os.environ, "MARK": value})
        try:
            return process.pid, children.marked("MARK", value)
        finally:
            process.kill()
            await process.wait()

    pid, found = call(look)
    assert found == [pid] and children.marked("MARK", value) == []


PARENT = """
import asyncio, os, sys
from pathlib import Path
from mmpipe.retrain import apart, children
environment = apart.environment(Path(sys.argv[1]))
program = apart.program("run", "--wait", "60")
asyncio.run(children.stream(program, cwd=Path.cwd(), environment=environment, say=print))
"""


def waits(pid):
    """Whether it has come to its own work: it catches SIGTERM."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line)
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def test_a_command_of_ours_ends_with_a_parent_that_is_killed(tmp_path):
    """Here it waits for a lock that the test holds."""

    async def whole():
        async with lock.held(tmp_path, "test"):
            parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=tmp_path)
            try:
                async with asyncio.timeout(60):
                    while not (found := children.marked(apart.MARK, str(tmp_path))) or not waits(found[0]):
                        await asyncio.sleep(0.05)
                parent.kill()
                parent.wait()
                async with asyncio.timeout(10):
                    while alive(found[0]):
                        await asyncio.sleep(0.05)
            finally:
                parent.kill()
                children.kill(children.marked(apart.MARK, str(tmp_path)))

    call(whole)
