import asyncio
import subprocess
import sys
import time

import pytest
from retrained import call

from mmpipe.errors import LockedError
from mmpipe.retrain import lock

HOLD = """
import asyncio, sys
from pathlib import Path
from mmpipe.retrain import lock
async def main():
    async with lock.held(Path(sys.argv[1]), "nightly"):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


async def enter(root, wait_s=0.0):
    async with lock.held(root, "mine", wait_s=wait_s):
        return lock.holder(root)


def test_the_second_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(
        LockedError, match=rf"run nightly is in progress since .* \(process {holder.pid}\)"
    ) as caught:
        call(enter, tmp_path)
    assert caught.value.exit_status == 7
    assert lock.holder(tmp_path)["run"] == "nightly"


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    holder.kill()
    started = time.monotonic()
    assert call(enter, tmp_path, wait_s=5)["run"] == "mine"
    assert time.monotonic() - started < 5
    assert lock.holder(tmp_path) is None


def test_who_waits_gets_it_when_it_is_free(tmp_path):
    order = []

    async def run(name, seconds):
        async with lock.held(tmp_path, name, wait_s=10):
            order.append(f"{name} in")
            await asyncio.sleep(seconds)
            order.append(f"{name} out")

    async def both():
        await asyncio.gather(run("a", 0.5), run("b", 0))

    asyncio.run(both())
    assert order == ["a in", "a out", "b in", "b out"]


def test_what_is_started_meanwhile_does_not_hold_it(tmp_path):
    async def start():
        async with lock.held(tmp_path, "mine"):
            return subprocess.Popen(["sleep", "60"])

    child = call(start)
    try:
        assert lock.holder(tmp_path) is None
    finally:
        child.kill()
        child.wait()
