"""The whole pipeline on a fresh clone: how long each part takes, what runs again after a change, equal bytes.

    python benchmarks/pipeline.py            # installs, fetches the corpus; about five minutes on 2 cores

Prints the seconds of `make repro` in a new clone, by part; how many output files of a second clone with one
worker are the same, byte for byte; and what `dvc repro` runs after each of some changes.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = ("data", "models", "metrics", "plots", "reports")
OURS = "data/raw/ours.csv"
Change = Callable[[Path], object]


def main() -> None:
    """Clone, run, change, run again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        first, second = Path(scratch, "first"), Path(scratch, "second")
        print_times(first)
        print_same(first, second)
        print_changes(first)


def print_times(clone: Path) -> None:
    """Table 1: a new clone, `make repro`."""
    git_clone(clone)
    started = time.monotonic()
    run(clone, clone, "make", "setup")
    times = [("install", time.monotonic() - started), *repro(clone, clone)[0]]
    print("| part | wall s |\n|---|---|")
    for name, seconds in times:
        print(f"| {name} | {seconds:.1f} |")
    own = sum(seconds for name, seconds in times if name not in ("install", "fetch"))
    print(f"| all but install and fetch | {own:.1f} |\n", flush=True)


def print_same(first: Path, second: Path) -> None:
    """Table 2: another clone with one worker; only the downloaded package is shared."""
    git_clone(second)
    shutil.copytree(first / ".mmpipe/downloads", second / ".mmpipe/downloads")
    repro(second, first, MMPIPE_WORKERS="1")
    one, two = hashes(first), hashes(second)
    assert one, "no output was found"
    names = one.keys() | two.keys()
    same = sum(one.get(name) == two.get(name) for name in names)
    weights = one["models/fusion/model.safetensors"][:12], two["models/fusion/model.safetensors"][:12]
    print(
        f"Two clones, 2 workers and 1: {same} of {len(one.keys() | two.keys())} files are the same;", end=" "
    )
    print(f"weights {weights[0]} and {weights[1]}\n", flush=True)


def print_changes(clone: Path) -> None:
    """Table 3: one change after the other in one workspace."""
    print("| change | wall s | stages run | samples extracted |\n|---|---|---|---|")
    for name, change in CHANGES.items():
        change(clone)
        started = time.monotonic()
        times, computed = repro(clone, clone)
        ran = ", ".join(stage for stage, _ in times if stage not in ("code", "dvc itself")) or "none"
        extracted = ", ".join(f"{modality} {count}" for modality, count in computed.items()) or "none"
        print(f"| {name} | {time.monotonic() - started:.1f} | {ran} | {extracted} |", flush=True)


def edit(name: str, old: str, new: str) -> Change:
    """Replace a text that a file has exactly once."""

    def change(clone: Path) -> None:
        text = (clone / name).read_text()
        assert text.count(old) == 1, (name, old)
        (clone / name).write_text(text.replace(old, new))

    return change


def add_sample(clone: Path) -> None:
    """One more row, in a manifest of one's own."""
    row = next((clone / "data/corpus").rglob("*.png"))
    shutil.copy(row, clone / "data/raw/ours.png")
    change_picture(clone)
    (clone / OURS).write_text("id,image,text,label\nours,ours.png,a thing of ours,animals\n")
    edit("params.yaml", "[data/corpus/manifest.csv]", f"[data/corpus/manifest.csv, {OURS}]")(clone)


def change_picture(clone: Path) -> None:
    """Other bytes, another picture."""
    code = "import cv2, sys; p = sys.argv[1]; cv2.imwrite(p, cv2.flip(cv2.imread(p), -1) // 2)"
    run(clone, clone, "python", "-c", code, "data/raw/ours.png")


CHANGES: dict[str, Change] = {
    "nothing": lambda _: None,
    "a comment in a helper (`files.py`)": lambda clone: append(clone / "mmpipe/files.py", "# a comment\n"),
    "code in `features/audio`, same features": lambda clone: append(
        clone / "mmpipe/features/audio.py", "_UNUSED = 1\n"
    ),
    "code in `features/audio`, other features": edit("mmpipe/features/audio.py", "1e-6\n", "1e-5\n"),
    "one sample added": add_sample,
    "its picture changed": change_picture,
    "`train.lr`": edit("params.yaml", "  lr: 0.002", "  lr: 0.0021"),
}


def append(path: Path, line: str) -> None:
    """One more line at the end."""
    path.write_text(path.read_text() + line)


def git_clone(clone: Path) -> None:
    """What is committed, and nothing else."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)


def run(folder: Path, home: Path, *command: str) -> None:
    """A command with the environment of the clone `home`; its words only where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment(home), text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")


def environment(home: Path, **more: str) -> dict[str, str]:
    """As `make` sets it."""
    return {**os.environ, "PATH": f"{home}/.venv/bin{os.pathsep}{os.environ['PATH']}", **more}


def repro(folder: Path, home: Path, **more: str) -> tuple[list[tuple[str, float]], dict[str, int]]:
    """`dvc repro` → (stage, seconds) of each that ran, what DVC needs around them, and samples computed."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment(home, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    marks, computed = [("dvc itself", time.monotonic())], {}
    for line in process.stdout:
        if found := re.search(r"Running stage '([^']+)'", line):
            marks.append((found[1], time.monotonic()))
        if found := re.search(r"extract (\w+):.*computed (\d+)", line):
            computed[found[1]] = int(found[2])
    if process.wait():
        sys.exit(f"dvc repro ended with {process.returncode}")
    ends = [*(mark[1] for mark in marks[1:]), time.monotonic()]
    return [(name, end - start) for (name, start), end in zip(marks, ends, strict=True)], computed


def hashes(clone: Path) -> dict[str, str]:
    """sha256 of every output."""
    return {
        str(path.relative_to(clone)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in RESULTS
        for path in (clone / folder).rglob("*")
        if path.is_file() and path.name != ".gitkeep"
    }


if __name__ == "__main__":
    main()
