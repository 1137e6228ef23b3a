import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

START = """
import errno, os, sys, time
from mmpipe.errors import InvalidError, TooManyBadRowsError
from mmpipe.stages.process import run
"""


def start(body, *, prefix="", **environment):
    source = (
        START
        + textwrap.dedent(prefix)
        + "def main():\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nrun(main)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process):
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("print('done')", 0, ""),
        (
            "raise InvalidError('params', 'is wrong', where='p:1:2')",
            5,
            "params p:1:2 is wrong — stopped — Fix:",
        ),
        ("raise TooManyBadRowsError('too-many-bad-rows', 'x')", 4, "too-many-bad-rows x"),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device', '/x/y')",
            75,
            "disk-full /x/y No space left",
        ),
        ("open('/dev/full', 'wb', buffering=0).write(b'x')", 75, "disk-full"),
        ("raise OSError(errno.EIO, 'Input/output error', '/x/y')", 1, "system /x/y Input/output error"),
        ("raise MemoryError", 75, "memory-full"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("1 / 0", 1, "internal <string>:6 ZeroDivisionError: division by zero"),
        ("raise InvalidError('params', '\\x1b[31mred \\u202e')", 5, "params \\x1b[31mred \\u202e"),
    ],
)
def test_errors_are_one_line_and_a_status(body, status, words):
    code, _, err = finish(start(body))
    assert code == status
    assert words in err and "Traceback" not in err
    assert len(err.splitlines()) == (1 if words else 0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    there = tmp_path / "small"
    there.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", there], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("cannot mount here")
    yield there
    subprocess.run(["umount", there], check=True)


WRITE = """
import numpy as np, pyarrow as pa
from pathlib import Path
from mmpipe import files, tables
data = np.random.default_rng(0).bytes(2_000_000)
"""


@pytest.mark.parametrize(
    "write",
    [
        "tables.write(Path('deep/x.parquet'), pa.table({'a': [data]}))",
        "files.write_bytes(Path('deep/x.parquet'), data)",
        "with files.atomic_folder(Path('deep')) as folder:\n    (folder / 'x.parquet').write_bytes(data)",
    ],
)
def test_a_full_disk_is_named_with_its_size_and_left_clean(small_disk, write):
    code, _, err = finish(start(write, prefix=f"{WRITE}\nos.chdir({str(small_disk)!r})\n"))
    assert code == 75, err
    assert err.startswith("disk-full deep"), err
    assert "No space left on device: 1.0 of 1.0 MB are free there" in err
    assert [path for path in small_disk.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("body", ["raise InvalidError('params', 'x')", "1 / 0"])
def test_debug_shows_the_traceback(body):
    assert "Traceback" in finish(start(body, MMPIPE_DEBUG="1"))[2]


def test_sigterm_lets_the_stage_save_and_ends_with_143():
    process = start("""
        try:
            print("ready", flush=True)
            time.sleep(30)
        except KeyboardInterrupt:
            time.sleep(0.3)
            print("saved", flush=True)
            raise
    """)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    time.sleep(0.1)
    process.terminate()  # a second one does not break the saving
    code, out, err = finish(process)
    assert (code, out) == (143, "saved\n")
    assert "terminated" in err


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_stage_ends_when_its_parent_is_killed():
    stage = START + "def main():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\nrun(main)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=20)  # waits until the child, too, has closed the pipe
    stat = Path(f"/proc/{child}/stat")
    for _ in range(50):
        if not stat.exists() or " Z " in stat.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the stage lives on")


def test_closed_pipe_ends_quietly():
    process = start("[print('x' * 1000) for _ in range(10_000)]")
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
