"""A workspace whose pipeline takes no time: three stages that end in a real bundle, in real git and DVC."""

import json
import shutil
from pathlib import Path

import tiny_bundle
from workspace import Workspace

from mmpipe import bundle, paths

STAGES = ("features", "train", "bundle")
_STEP = """
import json, pathlib, shutil, sys, time
how = json.loads(pathlib.Path("how.json").read_text())
name = sys.argv[1]
pathlib.Path("data").mkdir(exist_ok=True)
if name == "features":
    shutil.copy("source.txt", "data/features.txt")
elif name == "train":
    for epoch in range(1, 4):
        print(f"epoch {epoch}/3  train_loss {1 / epoch:.3f}", file=sys.stderr, flush=True)
        time.sleep(how["pause_s"])
    once = pathlib.Path(how["once"]) if how["once"] else None
    if how["exit"] and not (once and once.exists()):
        once and once.touch()
        print("it went wrong", file=sys.stderr)
        sys.exit(how["exit"])
    shutil.copy("data/features.txt", "data/trained.txt")
else:
    shutil.copytree("given", "models/fusion")
    pathlib.Path("metrics").mkdir(exist_ok=True)
    pathlib.Path("metrics/evaluate.json").write_text('{"accuracy": 0.5}')
"""
_PIPELINE = """
stages:
  features:
    cmd: exec python step.py features
    deps: [source.txt]
    outs: [data/features.txt]
  train:
    cmd: exec python step.py train
    deps: [data/features.txt, how.json]
    outs: [data/trained.txt]
  bundle:
    cmd: exec python step.py bundle
    deps: [data/trained.txt, given]
    outs: [models/fusion]
    metrics: [metrics/evaluate.json: {cache: false}]
"""


def make(root: Path, scratch: Path) -> Workspace:
    """The workspace, with a commit and its first model, which an earlier run's gate refused."""
    root.mkdir(parents=True)
    tiny_bundle.write(scratch)
    shutil.copytree(scratch / paths.BUNDLE, root / "given")
    (root / "step.py").write_text(_STEP)
    (root / paths.PIPELINE).write_text(_PIPELINE)
    (root / paths.PARAMS).write_text("{}\n")
    (root / "source.txt").write_text("some data\n")
    (root / ".gitignore").write_text("/data/\n/models/\n/.mmpipe/\n")
    workspace = Workspace(root)
    workspace.run("git", "init", "--quiet", "-b", "main")
    workspace.run("git", "config", "user.name", "A Person")
    workspace.run("git", "config", "user.email", "person@localhost")
    workspace.run("dvc", "init", "--quiet")
    behave(workspace)
    _refuse(workspace)
    return workspace


def behave(
    workspace: Workspace, *, pause_s: float = 0.0, exit_status: int = 0, once: Path | None = None
) -> None:
    """Commit how the stage `train` behaves from now on; `once`: it fails until this file is there."""
    how = {"pause_s": pause_s, "exit": exit_status, "once": str(once) if once else None}
    (workspace.root / "how.json").write_text(json.dumps(how))
    commit(workspace)


def commit(workspace: Workspace) -> None:
    """Commit all that there is."""
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--allow-empty", "-m", "Something")


def status(workspace: Workspace) -> str:
    """What git says of the person's checkout."""
    return workspace.run("git", "status", "--porcelain").stdout


def _refuse(workspace: Workspace) -> None:
    """A branch of a run, as `retrain.publishing` leaves it for a model that the gate refused."""
    digest = bundle.read(workspace.root / "given").digest
    message = f"Retrain: none\n\nBundle-SHA256: {digest}\nGate: refuse\nChampion: none\nRun: retrain/1\n"
    tree = workspace.run("git", "rev-parse", "HEAD^{tree}").stdout.strip()
    commit = workspace.run("git", "commit-tree", tree, "-p", "HEAD", "-m", message).stdout.strip()
    workspace.run("git", "branch", "retrain/1", commit)
