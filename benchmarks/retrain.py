"""What a run adds to `dvc repro`: nothing to do, and every stage forced, on a small generated workspace.

    python benchmarks/retrain.py --rounds 3

Plain `dvc repro` in the checkout and a run's own steps in its worktree, in turns. Medians (least to most)
of wall seconds, and the CPU seconds of all their processes.
"""

import argparse
import asyncio
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mmpipe.retrain import children, overrides, run, stages, worktree
from mmpipe.retrain.options import Options

Times = dict[str, list[float]]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def main() -> None:
    """Make the workspace, measure in turns, print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        root = prepared(Path(scratch))
        for force in (False, True):
            plain: Times = {}
            ours: Times = {}
            for _ in range(rounds):
                asyncio.run(measured(plain, lambda times, force=force: repro(root, times, force=force)))
                asyncio.run(measured(ours, lambda times, force=force: steps(root, times, force=force)))
            show("every stage forced" if force else "nothing to do", plain, ours)


def prepared(scratch: Path) -> Path:
    """The corpus `shapes`, three epochs, reproduced and committed."""
    root = scratch / "w"
    execute(scratch, "mmpipe", "init", "w", "--corpus", "shapes")
    small = {"image.size": 32, "train.epochs": 3, "train.threads": 1, "evaluate.bootstrap": 50}
    overrides.apply(root, small)
    execute(root, "dvc", "repro", "--quiet")
    execute(root, "git", "add", "--all")
    execute(root, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "--quiet", "-m", "b")
    return root


def execute(folder: Path, *command: str) -> None:
    """Run a command quietly, in this environment."""
    subprocess.run(command, cwd=folder, env={**os.environ, "PATH": PATH}, check=True, capture_output=True)


async def measured(times: Times, job: Callable[[Times], Awaitable[None]]) -> None:
    """Wall and CPU seconds of a job, beside what it notes itself."""
    began, before = time.monotonic(), cpu()
    await job(times)
    times.setdefault("all", []).append(time.monotonic() - began)
    times.setdefault("CPU", []).append(cpu() - before)


def cpu() -> float:
    """Of this process and all that have ended below it."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


async def repro(root: Path, times: Times, *, force: bool) -> None:
    """`dvc repro`; a stage lasts from its first line to the next stage's."""
    marks = [("start", time.monotonic())]

    def hear(line: str) -> None:
        if line.startswith("Running stage '"):
            marks.append((line.split("'")[1], time.monotonic()))

    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    quiet = {"PATH": PATH, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    assert await children.stream(command, cwd=root, environment=quiet, say=hear) == 0
    marks.append(("", time.monotonic()))
    for (name, began), (_, ended) in itertools.pairwise(marks):
        times.setdefault(name, []).append(ended - began)


async def steps(root: Path, times: Times, *, force: bool) -> None:
    """The steps of a run up to the gate."""

    def note(name: str, began: float) -> float:
        now = time.monotonic()
        times.setdefault(name, []).append(now - began)
        return now

    began = time.monotonic()
    tree = worktree.prepare(root)
    began = note("prepare", began)
    try:
        await run.snapshot(tree, Options(), print)
        began = note("snapshot", began)
        graph = await run.plan(tree, print)
        began = note("plan", began)
        silent = lambda _stage, _line: None  # noqa: E731
        one = lambda name: stages.run_stage(tree, name, silent, force=force)  # noqa: E731
        found = await stages.reproduce(graph, one, force=force)
        began = note("reproduce", began)
        assert not [result for result in found if result.status == "failed"]
        for result in found:
            times.setdefault(result.name, []).append(result.seconds)
    finally:
        worktree.remove(tree)
        note("remove", began)


def show(title: str, plain: Times, ours: Times) -> None:
    """Both columns, and what ours is more."""
    print(f"\n{title}\n\n| | dvc repro | a run | more |\n|---|---|---|---|")
    for name in dict.fromkeys([*ours, *plain]):
        one, other = plain.get(name, [0.0]), ours.get(name, [0.0])
        more = statistics.median(other) - statistics.median(one)
        print(f"| {name} | {told(one)} | {told(other)} | {more:+.1f} |")


def told(values: list[float]) -> str:
    """The median, and the least and the most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if any(values) else ""


if __name__ == "__main__":
    main()
