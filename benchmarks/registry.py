"""Two places: one publishes three versions, the other pulls and predicts; the seconds of each command.

    python benchmarks/registry.py           # a small made corpus; about two minutes on 2 cores

The second place is an empty folder: no repository, no params.yaml. What it predicts must be, bit for bit,
what the publisher's own bundle predicts.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATES = ("0.002", "0.0025", "0.003")
LOOK = """
import json, sys, time
from pathlib import Path
from mmpipe import bundle
from mmpipe.registry import data
import dvc.repo

digest = bundle.read(Path("models/fusion")).digest
started, cpu = time.monotonic(), time.process_time()
data.check_pushed(Path(), "store", path="models/fusion", digest=digest)
print(time.monotonic() - started, time.process_time() - cpu)
"""
"""What `publish` does between the push of the data and the tag."""
SAMPLE = ("--text", "a big red one", "--json")


class Place:
    """A folder in which commands are run and timed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def run(self, *command: str, quiet: bool = False, status: int = 0) -> str:
        """What the command printed; its time is printed unless `quiet`."""
        started, before = time.monotonic(), _cpu()
        done = subprocess.run(command, cwd=self.folder, text=True, capture_output=True, env=ENVIRONMENT)
        if done.returncode != status:
            sys.exit(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
        if not quiet:
            wall = time.monotonic() - started
            print(f"| `{' '.join(command[:4])}` | {wall:.2f} | {_cpu() - before:.2f} |", flush=True)
        return done.stdout


def _cpu() -> float:
    """Seconds that all commands so far spent on processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")


def main() -> None:
    """Publish, pull, predict, roll back."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = Place(Path(scratch))
        work = publisher(top)
        print("| command | wall s | CPU s |\n|---|---|---|")
        bundles = [publish(work, rate) for rate in RATES]
        look(work)
        promote_and_roll_back(work)
        consumer(Place(top.folder / "away"), f"{top.folder}/origin.git", bundles)


def publisher(top: Place) -> Place:
    """A workspace with a bare origin and a folder as its DVC remote."""
    top.run("mmpipe", "init", "work", "--corpus", "shapes", quiet=True)
    work = Place(top.folder / "work")
    params = work.folder / "params.yaml"
    params.write_text(
        params.read_text().replace("epochs: 60", "epochs: 4").replace("patience: 10", "patience: 4")
    )
    top.run("git", "init", "-q", "--bare", "-b", "main", "origin.git", quiet=True)
    for command in (
        ("git", "remote", "add", "origin", f"{top.folder}/origin.git"),
        ("git", "config", "user.name", "Ada"),
        ("git", "config", "user.email", "ada@example.org"),
        ("dvc", "remote", "add", "-q", "-d", "store", f"{top.folder}/store"),
    ):
        work.run(*command, quiet=True)
    return work


def publish(work: Place, rate: str) -> dict[str, object]:
    """Train with another learning rate and publish; what the publisher's own bundle predicts."""
    params = work.folder / "params.yaml"
    params.write_text(re.sub(r"(?m)^  lr: [0-9.]+", f"  lr: {rate}", params.read_text()))
    work.run("dvc", "repro", quiet=True)
    work.run("git", "add", "-A", quiet=True)
    work.run("git", "commit", "-q", "-m", f"lr {rate}", quiet=True)
    work.run("mmpipe", "publish", "--json")
    return dict(json.loads(work.run("mmpipe", "predict", *SAMPLE, quiet=True)))


def look(work: Place) -> None:
    """Of the last version, as `publish` looks at the remote before it tags, and as DVC itself does."""
    spent = [[float(x) for x in work.run(sys.executable, "-c", LOOK, quiet=True).split()] for _ in range(5)]
    wall, cpu = (statistics.median(column) for column in zip(*spent, strict=True))
    print(f"| a look at the remote, the bundle read back | {wall:.2f} | {cpu:.2f} |")
    work.run("dvc", "status", "--cloud", "--json")


def promote_and_roll_back(work: Place) -> None:
    """v1.0.0 in use, then v1.1.0, then back."""
    work.run("mmpipe", "promote", "fusion@v1.0.0")
    work.run("mmpipe", "promote", "fusion@v1.1.0", "--force", "--why", "to show it")
    work.run("mmpipe", "rollback")
    work.run("mmpipe", "history")
    work.run("mmpipe", "models", "--json")
    work.run("mmpipe", "verify")
    work.run("mmpipe", "diff", "fusion@v1.0.0", "fusion@v1.1.0")


def consumer(away: Place, origin: str, bundles: list[dict[str, object]]) -> None:
    """Every way to name a version, each compared with what its publisher predicts."""
    wanted = {"fusion@v1.0.0": 0, "fusion@v1.1.0": 1, "fusion@latest": 2, "fusion#prod": 0}
    same = 0
    for spec, number in wanted.items():
        away.run("mmpipe", "pull", spec, "--from", origin, "--into", "model")
        found = json.loads(away.run("mmpipe", "predict", *SAMPLE, "--model", "model", quiet=True))
        same += found["probabilities"] == bundles[number]["probabilities"]
    away.run("mmpipe", "history", "--from", origin)
    away.run("mmpipe", "verify", "fusion@latest", "--from", origin)
    away.run("mmpipe", "pull", "fusion@v9.9.9", "--from", origin, status=3)
    print(f"\n{same} of {len(wanted)} predictions are the publisher's, bit for bit")


if __name__ == "__main__":
    main()
