"""What the server adds to a run: `dvc repro`, `mmpipe run` and a flow run in turns, and `mmpipe ui` itself.

    python benchmarks/server.py --rounds 5

The workspace of retrain.py, its model published. Nothing to do, and every stage forced with the gate, which
`dvc repro` alone does not have. Medians (least to most). Memory counts shared pages once.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import retrain
from processes import family, proportional_kb

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scheduling import Server, command_line, running
from workspace import Workspace

from mmpipe.retrain.outcome import REFUSED

STARTS = 3
IDLE_S = 20


def main() -> None:
    """Start the server some times, then measure runs in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        root = retrain.prepared(Path(scratch))
        for command in ("publish", "promote fusion@v1.0.0"):
            retrain.execute(root, "mmpipe", *command.split())
        starts: list[float] = []
        for _ in range(STARTS):
            with started(root, starts):
                pass
        with started(root, starts) as server:
            print(f"`mmpipe ui` is ready after {told(starts)} s, the first time {starts[0]:.1f}\n")
            time.sleep(IDLE_S)
            memory(server.pid)
            for force in (False, True):
                compare(root, server, rounds, force=force)


@contextmanager
def started(root: Path, seconds: list[float]):
    """`mmpipe ui`; how long it took until it could be used is noted."""
    began = time.monotonic()
    with running(Workspace(root)) as server:
        seconds.append(time.monotonic() - began)
        yield server


def memory(pid: int) -> None:
    """A row for each process of an idle `mmpipe ui`."""
    print("| process | MB |\n|---|---|")
    found = [(proportional_kb(one) / 1024, " ".join(command_line(one))) for one in family(pid)]
    for megabytes, command in found:
        name = next((n for n in ("uvicorn", "flows.deploy", "flows.server") if n in command), command[:60])
        print(f"| {name} | {megabytes:.0f} |")
    print(f"| all | {sum(megabytes for megabytes, _ in found):.0f} |")


def compare(root: Path, server: Server, rounds: int, *, force: bool) -> None:
    """All three in turns, and what the engine adds to each stage of its run."""
    times: dict[str, list[float]] = {"dvc repro": [], "mmpipe run": [], "flow run": []}
    inside: list[float] = []
    waited: list[float] = []
    shown: dict[str, list[float]] = {}
    flags = ["--force"] if force else []

    def flow() -> None:
        run = server.ended(server.start("retrain", options={"publish": "no", "force_run": force}))
        assert run["state"]["type"] == "COMPLETED", run["state"]
        inside.append(run["total_run_time"])
        waited.append(seconds(run["expected_start_time"], run["start_time"]))
        for task in server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}):
            shown.setdefault(task["name"], []).append(task["total_run_time"])

    for _ in range(rounds):
        note(times["dvc repro"], lambda: retrain.execute(root, "dvc", "repro", *flags))
        note(times["mmpipe run"], lambda: alone(root, *flags))
        note(times["flow run"], flow)
    print(f"\n{'every stage forced' if force else 'nothing to do'}\n\n| | wall s |\n|---|---|")
    for name, values in times.items():
        print(f"| {name} | {told(values)} |")
    print(f"| of the flow run: until it started | {told(waited)} |")
    print(f"| of the flow run: from there to its end | {told(inside)} |")
    print("\nits task runs, s: " + ", ".join(f"{name} {told(values)}" for name, values in shown.items()))


def alone(root: Path, *flags: str) -> None:
    """`mmpipe run`; the gate refuses a model that is no better."""
    done = Workspace(root).run("mmpipe", "run", "--publish", "no", *flags, check=False)
    assert done.returncode in (0, REFUSED), done.stdout + done.stderr


def note(times: list[float], job: Callable[[], None]) -> None:
    """Wall seconds of a job."""
    began = time.monotonic()
    job()
    times.append(time.monotonic() - began)


def seconds(earlier: str, later: str) -> float:
    """Between two times of the API."""
    first, last = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (earlier, later))
    return (last - first).total_seconds()


def told(values: list[float]) -> str:
    """The median, and the least and the most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
