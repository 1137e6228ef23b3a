"""A workspace that retrains in seconds: real git, real DVC, real stages that are a few lines of Python."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from workspace import Workspace

STEPS = '''
"""The stages: `python steps.py STAGE`."""
import json, os, signal, sys, time
from pathlib import Path

def ingest():
    tables = sorted(Path("data/raw").rglob("rows.jsonl"))
    Path("data/samples").write_text("".join(table.read_text() for table in tables))
    Path("metrics").mkdir(exist_ok=True)
    rows = Path("data/samples").read_text().count("\\n")
    Path("metrics/ingest.json").write_text(json.dumps({"rows_in": rows, "rows_ok": rows}))

def extract(name):
    folder = Path("data/features")
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(name + Path("data/samples").read_text())
    meeting(name)

def meeting(name):
    """With PARTY=n, wait until n of these run at the same time."""
    if party := int(os.environ.get("PARTY", 0)):
        Path(os.environ["MEET"], name).touch()
        until = time.monotonic() + 30
        while len(list(Path(os.environ["MEET"]).iterdir())) < party:
            assert time.monotonic() < until, "the others never came"
            time.sleep(0.02)

def train():
    from mmpipe import bundle
    from mmpipe.params import load
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mood = os.environ.get("MOOD")
    if mood == "fail":
        sys.exit("the learning rate is bad")
    lr = load(Path("params.yaml")).train.lr
    kept = Path(f".mmpipe/checkpoints/lr{lr}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = int(kept.read_text()) if kept.exists() else 0
    for epoch in range(done, int(os.environ.get("EPOCHS", 1))):
        print(f"epoch {epoch + 1} after {done}", flush=True)
        time.sleep(0.1)
        kept.with_suffix(".new").write_text(str(epoch + 1))
        kept.with_suffix(".new").replace(kept)
    samples = Path("data/samples").read_text()
    config = {"labels": ["a", "b"], "task": "classify", "data_sha256": str(len(samples)), "params": lr}
    test = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "samples": 10}
    files = {"config.json": config, "metrics.json": {"test": test}}
    contents = {name: json.dumps(value).encode() for name, value in files.items()}
    bundle.write(Path("models/fusion"), contents | {"model.safetensors": f"{lr}{samples}".encode()})
    kept.unlink(missing_ok=True)
    if mood == "vanish":
        Path("models/fusion/config.json").unlink()

{"ingest": ingest, "train": train}.get(sys.argv[1], lambda: extract(sys.argv[1]))()
'''
PIPELINE = """
artifacts:
  fusion: {path: models/fusion, type: model}
stages:
  code:
    cmd: mkdir -p data/code && echo 1 > data/code/all.json
    always_changed: true
    outs: [data/code/all.json]
  ingest:
    cmd: exec python steps.py ingest
    deps: [data/code/all.json, data/raw]
    outs: [data/samples]
    metrics: [metrics/ingest.json: {cache: false}]
  extract:
    foreach: [audio, image, text]
    do:
      cmd: exec python steps.py ${item}
      deps: [data/code/all.json, data/samples]
      outs: ["data/features/${item}"]
  train:
    cmd: exec python steps.py train
    params: [train.lr]
    deps: [data/code/all.json, data/samples, data/features/audio, data/features/image, data/features/text]
    outs: [models/fusion]
"""
ORDER = ("code", "ingest", "extract@audio", "extract@image", "extract@text", "train")


def make(root: Path) -> Workspace:
    """The workspace, reproduced and committed."""
    workspace = Workspace(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    Workspace(root.parent).run("mmpipe", "init", root.name)
    (root / "steps.py").write_text(STEPS)
    (root / "dvc.yaml").write_text(PIPELINE)
    workspace.run("dvc", "repro", "--quiet")
    for key, value in (("name", "Per Son"), ("email", "person@example.org")):
        workspace.run("git", "config", f"user.{key}", value)
    commit(workspace, "first")
    return workspace


def copy(workspace: Workspace, root: Path) -> Workspace:
    """Another workspace in the same state, with a cache of its own."""
    shutil.copytree(workspace.root, root, symlinks=True)
    shutil.rmtree(root / ".mmpipe", ignore_errors=True)
    return Workspace(root, workspace.environment)


def commit(workspace: Workspace, message: str) -> str:
    """Commit everything as the person; the commit's full name."""
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
    return workspace.run("git", "rev-parse", "HEAD").stdout.strip()


def state(workspace: Workspace) -> tuple[str, str, str]:
    """What must be the same before and after a run: git status, the branch, the commit."""
    ask = [("status", "--porcelain"), ("symbolic-ref", "HEAD"), ("rev-parse", "HEAD")]
    return tuple(workspace.run("git", *words).stdout for words in ask)  # type: ignore[return-value]


def drop(folder: Path, rows: Sequence[tuple[str, str, str]], *, table: str = "new.csv") -> None:
    """Rows (id, text, label), each with a picture of its own, into a landing folder."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = ["id,image,text,label"]
    for name, text, label in rows:
        (folder / "pictures" / f"{name}.png").write_bytes(f"picture of {name} {text}".encode())
        lines.append(f"{name},pictures/{name}.png,{text},{label}")
    (folder / table).write_text("\n".join([*lines, ""]))


def call(function, *arguments, **options):
    """Run a coroutine function to its end."""
    return asyncio.run(function(*arguments, **options))


def results(folder: Path) -> dict[str, bytes]:
    """Every file of the model."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
