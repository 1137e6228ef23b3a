"""The workspace of `scheduled.py`: most of the stamps, a first version, and what people do to it."""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
LATER = 7
"""Every so-many-th stamp lands later."""


def prepare(root: Path) -> list[dict[str, str]]:
    """A workspace of one's own with most of the stamps, its first version published; the rows left out."""
    execute(root.parent, "mmpipe", "init", root.name, "--corpus", "stamps")
    execute(root, "dvc", "repro", "--quiet", "fetch")
    corpus, own = root / "data/corpus", root / "data/raw/stamps"
    rows = list(csv.DictReader((corpus / "manifest.csv").open(encoding="utf-8")))
    now, later = [row for n, row in enumerate(rows) if n % LATER], rows[::LATER]
    write(own, now, corpus)
    kept = root.parent / "later"
    write(kept, later, corpus)
    text = (root / "params.yaml").read_text()
    text = text.replace("corpus: stamps", "corpus: none", 1)
    (root / "params.yaml").write_text(
        text.replace("data/corpus/manifest.csv", "data/raw/stamps/manifest.csv")
    )
    change(root, "train.epochs", 2)
    (root / "landing").mkdir()
    with (root / ".gitignore").open("a") as file:
        file.write("/landing/\n")
    execute(root, "dvc", "add", "--quiet", "data/raw")
    execute(root, "dvc", "repro", "--quiet")
    commit(root, "The first model")
    execute(root, "mmpipe", "publish")
    execute(root, "mmpipe", "promote", "fusion@v1.0.0")
    return later


def write(folder: Path, rows: list[dict[str, str]], corpus: Path) -> None:
    """A table and its files."""
    for row in rows:
        for name in (row["image"], row["audio"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / name, folder / name)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def change(root: Path, key: str, value: float) -> None:
    """Set one parameter of params.yaml."""
    from mmpipe.retrain import overrides

    overrides.apply(root, {key: value})


def commit(root: Path, message: str) -> None:
    """What a person does in the checkout."""
    execute(root, "git", "add", "--all")
    execute(root, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", message)


def drop(root: Path) -> None:
    """Files first, the table last."""
    source, goal = root.parent / "later", root / "landing"
    for name in ("images", "audio"):
        shutil.copytree(source / name, goal / name)
    shutil.copyfile(source / "manifest.csv", goal / ".manifest.csv")
    (goal / ".manifest.csv").rename(goal / "manifest.csv")


def without_news(root: Path) -> float:
    """Seconds of a `dvc repro` that has nothing to do: the median of three."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        execute(root, "dvc", "repro", "--quiet")
        times.append(time.monotonic() - began)
    return statistics.median(times)


def execute(folder: Path, *command: str, check: bool = True) -> None:
    """A command in this environment; its words only where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True)
    if check and done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")


def environment() -> dict[str, str]:
    """This one, with the programs that lie beside this Python."""
    return {**os.environ, "PATH": PATH, "DVC_NO_ANALYTICS": "1"}
