"""One training in a folder of its own, which borrows what a workspace has made of its corpus.

Only what a change touches runs again: `split` for another fold, then `tokenizer` and `extract text` where
texts are encoded by what the train split has, then `train` and `evaluate`. One thread each, so that the same
training gives the same weights beside others and alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

ALWAYS = ("corpus", "raw", "samples.parquet", "quarantine.parquet", "features/image", "features/audio")
STAGES = {
    "splits.parquet": ("split",),
    "tokenizer.json": ("tokenizer",),
    "features/text": ("extract", "text"),
    "trained": ("train",),
    "predictions.parquet": ("evaluate",),
}
"""What is made → the stage that makes it, which does not run where that is borrowed."""


class Trained(NamedTuple):
    """`metrics/evaluate.json`, `metrics/train.json`, and the CPU s of the stage `train`."""

    found: dict[str, Any]
    learned: dict[str, Any]
    train_cpu_s: float


def furnish(folder: Path, workspace: Path, changes: list[str]) -> None:
    """Make `folder` a workspace with the parameters of another one, changed by `SECTION.KEY=VALUE`."""
    theirs = YAML(typ="safe").load(workspace / "params.yaml")
    tree = YAML(typ="rt").load(workspace / "params.yaml")
    for change in ["train.threads=1", *changes]:
        key, value = change.split("=", 1)
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = YAML(typ="safe").load(value)
    for name in [*ALWAYS, *_same(tree, theirs)]:
        target = folder / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(workspace / "data" / name)
    YAML(typ="rt").dump(tree, folder / "params.yaml")


def train(folder: Path) -> Trained:
    """Run the stages. A killed call goes on where the training was. Ends the program where a stage fails."""
    spent = {made: make(folder, made) for made in STAGES}
    found, learned = (
        json.loads((folder / f"metrics/{name}.json").read_text()) for name in ("evaluate", "train")
    )
    return Trained(found, learned, spent["trained"])


def _same(tree: Any, theirs: Any) -> list[str]:
    """What comes out of these parameters as it did for the workspace."""
    texts = ["tokenizer.json", "features/text"] if tree["text"] == theirs["text"] else []
    if tree["split"] == theirs["split"]:
        return ["splits.parquet", *texts]
    return texts if tree["text"].get("pretrained") is not None else []


def make(folder: Path, made: str) -> float:
    """Run the stage that makes it, and its CPU s, those of its workers included; 0 where it is borrowed."""
    if (folder / "data" / made).is_symlink():
        return 0.0
    environment = {**os.environ, "MMPIPE_WORKERS": "1", "OMP_NUM_THREADS": "1"}
    stage, *arguments = STAGES[made]
    command = [sys.executable, "-m", f"mmpipe.stages.{stage}", *arguments]
    with (folder / "said.txt").open("w+") as said:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, spent = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            sys.exit(f"{folder}: {' '.join(command)} ended with {child.returncode}: {said.read()}")
    return spent.ru_utime + spent.ru_stime
