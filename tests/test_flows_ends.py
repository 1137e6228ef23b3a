"""What a run came to, in a file: whoever holds the file lives."""

import json
import os
import signal
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from flows import alarms, ends, sturdy
from flows.ends import End

pytestmark = pytest.mark.filterwarnings("default:::prefect")
HOLD = """
import sys, time, uuid
from pathlib import Path
from flows import ends
ends.hold(Path(sys.argv[1]), uuid.UUID(sys.argv[2]))
print("held", flush=True)
time.sleep(60)
"""


class Client:
    """Where the server would be asked: a file that is locked is asked about, one that is not is settled."""

    def __init__(self):
        self.asked = []

    async def read_flow_run(self, run):
        from prefect.exceptions import ObjectNotFound

        self.asked.append(run)
        raise ObjectNotFound(KeyError(str(run)))


def tell(folder, client):
    import asyncio

    return asyncio.run(ends.tell(folder, client))


def test_the_file_of_a_killed_run_is_free_at_once_and_goes_when_it_is_told(tmp_path, monkeypatch):
    run = uuid4()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    monkeypatch.setattr(ends, "SETTLED_S", 0.0)
    client = Client()
    tell(tmp_path, client)
    assert ends.known(tmp_path) == {run}  # it lives, whatever the server says
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    tell(tmp_path, client)
    assert client.asked == [run, run]
    assert ends.known(tmp_path) == set() and list(tmp_path.iterdir()) == []


def test_an_end_is_left_alone_until_the_server_must_have_heard_of_it(tmp_path):
    run = uuid4()
    path = ends.hold(tmp_path, run)
    ends.keep(path, End("COMPLETED", "Promoted", "fusion@v1.0.0"))
    ends.let_go(run)
    client = Client()
    tell(tmp_path, client)
    assert client.asked == [] and ends.known(tmp_path) == {run}
    assert json.loads(path.read_bytes()) == {
        "type": "COMPLETED",
        "name": "Promoted",
        "message": "fusion@v1.0.0",
    }
    past = time.time() - ends.SETTLED_S - 1
    for file in tmp_path.iterdir():
        os.utime(file, (past, past))
    tell(tmp_path, client)
    assert client.asked == [run] and list(tmp_path.iterdir()) == []


def test_an_end_is_what_the_engine_would_report():
    from prefect.states import Completed

    assert sturdy._end(Completed(name="Refused", message="why")) == End("COMPLETED", "Refused", "why")
    assert sturdy._end({"status": "judged"}) == End("COMPLETED", "Completed")


def test_a_run_that_an_automation_takes_for_dead_is_known_by_its_words():
    from prefect.events.actions import DoNothing

    words = alarms.automations([DoNothing()])[0].actions[0].message
    assert words.startswith(ends.SILENT)


ENDED = """
import asyncio, sys, types, uuid
from flows import sturdy
run = types.SimpleNamespace(id=uuid.UUID(int=7))
sturdy.FlowRunContext = types.SimpleNamespace(get=lambda: types.SimpleNamespace(flow_run=run))
async def work():
    try:
        await asyncio.sleep(1000)
    finally:
        import antigravity
loop = asyncio.new_event_loop()
task = loop.create_task(sturdy._noted(work)())
loop.call_later(0.3, loop.stop)
loop.run_forever()
kept = [loop, task]
kept.append(kept)
sys.modules["kept"] = types.ModuleType("kept")
sys.modules["kept"].kept = kept
"""


def test_what_fails_because_the_interpreter_ends_is_no_failure_of_the_run(tmp_path):
    """The run was ended by a signal: whoever finds its file says crashed."""
    done = subprocess.run([sys.executable, "-c", ENDED], cwd=tmp_path, capture_output=True, text=True)
    assert "Python is likely shutting down" in done.stderr
    found = [path.suffix for path in (tmp_path / ".mmpipe/prefect/runs").iterdir()]
    assert found == [".live"]
