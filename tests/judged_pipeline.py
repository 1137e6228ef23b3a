"""A workspace that retrains in seconds with the real gate: a tiny model, a few test samples."""

import hashlib
import json
import shutil
from pathlib import Path

import tiny_bundle
from workspace import Workspace

from mmpipe import paths, schema, tables

STAGES = ("data", "features", "train", "bundle")
_STEP = '''
"""The stages: `python step.py STAGE`."""
import json, pathlib, shutil, signal, sys, time
from ruamel.yaml import YAML
name = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
how = json.loads(pathlib.Path("how.json").read_text())
data = pathlib.Path("data")
data.mkdir(exist_ok=True)
if name == "data":
    for file in pathlib.Path("given/tables").iterdir():
        shutil.copy(file, data / file.name)
elif name == "features":
    time.sleep(how["pause_s"])
    (data / "features.txt").write_text(pathlib.Path("source.txt").read_text().upper())
elif name == "train":
    lr = YAML(typ="safe").load(pathlib.Path("params.yaml"))["train"]["lr"]
    kept = pathlib.Path(f".mmpipe/checkpoints/lr{lr}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = int(kept.read_text()) if kept.exists() else 0
    for epoch in range(done + 1, how["epochs"] + 1):
        print(f"epoch {epoch}/{how['epochs']} after {done}", file=sys.stderr, flush=True)
        time.sleep(how["pause_s"])
        kept.with_suffix(".new").write_text(str(epoch))
        kept.with_suffix(".new").replace(kept)
    (data / "trained.txt").write_text(f"{lr} {(data / 'features.txt').read_text()}")
    kept.unlink(missing_ok=True)
else:
    from mmpipe import bundle
    files = dict(bundle.read(pathlib.Path("given/fusion")).files)
    config = json.loads(files["config.json"])
    config |= {"data_sha256": "0" * 64, "trained": (data / "trained.txt").read_text()}
    files["config.json"] = json.dumps(config, sort_keys=True).encode()
    files["metrics.json"] = json.dumps({"test": {"accuracy": 0.5, "samples": 4}}).encode()
    bundle.write(pathlib.Path("models/fusion"), files)
    pathlib.Path("metrics").mkdir(exist_ok=True)
    pathlib.Path("metrics/evaluate.json").write_text(json.dumps({"accuracy": 0.5}))
'''
_PIPELINE = """
artifacts:
  fusion: {path: models/fusion, type: model}
stages:
  data:
    cmd: exec python step.py data
    deps: [given/tables]
    outs: [data/samples.parquet, data/splits.parquet]
  features:
    cmd: exec python step.py features
    deps: [source.txt]
    outs: [data/features.txt]
  train:
    cmd: exec python step.py train
    deps: [data/features.txt, how.json]
    params: [train.lr]
    outs: [data/trained.txt]
  bundle:
    cmd: exec python step.py bundle
    deps: [data/trained.txt, given/fusion]
    outs: [models/fusion]
    metrics: [metrics/evaluate.json: {cache: false}]
"""


def make(
    root: Path, scratch: Path, *, pause_s: float = 0.5, epochs: int = 3, top: Path | None = None
) -> Workspace:
    """The workspace, reproduced and committed; nothing is published yet. `top`: of the git repository."""
    workspace = Workspace(root)
    (root / "given/tables").mkdir(parents=True)
    tiny_bundle.write(scratch, modalities=("text",))
    shutil.copytree(scratch / paths.BUNDLE, root / "given/fusion")
    _tables(root / "given/tables")
    (root / "step.py").write_text(_STEP)
    (root / paths.PIPELINE).write_text(_PIPELINE)
    (root / paths.PARAMS).write_text("train:\n  lr: 0.01\n")
    (root / "source.txt").write_text("some data\n")
    (root / "how.json").write_text(json.dumps({"pause_s": pause_s, "epochs": epochs}))
    (root / ".gitignore").write_text("/data/\n/models/\n/.mmpipe/\n/.mmpipe-ui.log\n")
    workspace.run("git", "init", "--quiet", "-b", "main", str(top or root))
    workspace.run("git", "config", "user.name", "Per Son")
    workspace.run("git", "config", "user.email", "person@localhost")
    workspace.run("dvc", "init", "--quiet", *(["--subdir"] if top else []))
    workspace.run("dvc", "repro", "--quiet")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "-m", "first")
    return workspace


def _tables(folder: Path) -> None:
    """Four test samples of text."""
    words = [f"{words} {number}" for number, words in enumerate(tiny_bundle.WORDS[:4])]
    empty = dict.fromkeys(schema.SAMPLES.names)
    rows = [
        empty
        | {"id": f"s{n}", "source": f"rows.csv:{n + 1}", "target": tiny_bundle.LABELS[n % 3], "warnings": []}
        | {"text": text, "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
        for n, text in enumerate(words)
    ]
    tables.write_rows(folder / paths.SAMPLES.name, rows, schema.SAMPLES)
    splits = [{"id": row["id"], "split": "test", "group": row["id"], "target": row["target"]} for row in rows]
    tables.write_rows(folder / paths.SPLITS.name, splits, schema.SPLIT)
