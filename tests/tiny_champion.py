"""The workspace of `tiny_pipeline` with a champion that predicts, its tables, and new samples."""

import csv
import shutil
from pathlib import Path

import tiny_bundle
import tiny_pipeline
from workspace import REPOSITORY, Workspace

from mmpipe import bundle, ingest, manifest, paths, schema, tables
from mmpipe.inspection import Limits
from mmpipe.predict import Prediction, Sample, load
from mmpipe.registry import messages

STAGES = (*tiny_pipeline.STAGES, "tables")
TRAIN = 18
"""Of 36 samples; the others are its test split."""
_STAGE = """
  tables:
    cmd: exec python step.py tables
    deps: [tables]
    outs: [data/samples.parquet, data/splits.parquet, data/predictions.parquet]
artifacts:
  fusion: {path: models/fusion, type: model}
"""
_STEP = """
if sys.argv[1] == "tables":
    pathlib.Path("data").mkdir(exist_ok=True)
    for path in pathlib.Path("tables").iterdir():
        shutil.copy(path, "data")
    sys.exit()
how = """
IGNORED = "/.mmpipe-ui.log\n/landing/\n/out.*\n"
"""Besides what every workspace ignores."""


def make(root: Path, scratch: Path) -> Workspace:
    """Committed, reproduced, with `fusion@v1.0.0` in the stage `prod`."""
    workspace = tiny_pipeline.make(root, scratch)
    (root / ".gitignore").write_text((REPOSITORY / "mmpipe/templates/gitignore").read_text() + IGNORED)
    step, pipeline = root / "step.py", root / paths.PIPELINE
    step.write_text(step.read_text().replace("how = ", _STEP.lstrip(), 1))
    pipeline.write_text(pipeline.read_text().rstrip() + _STAGE)
    drop(root / "rows", seed=1, count=36)
    _write_tables(workspace)
    workspace.run("dvc", "repro", "--quiet")
    tiny_pipeline.commit(workspace)
    digest = bundle.read(root / paths.BUNDLE).digest
    tag(workspace, "fusion@v1.0.0", {"Bundle-SHA256": digest})
    tag(workspace, "fusion#prod#1", {"Version": "v1.0.0", "Action": "promote"})
    return workspace


def drop(folder: Path, *, seed: int, count: int, labels: tuple[str, ...] = tuple(tiny_bundle.LABELS)) -> None:
    """A table `rows.csv` of `count` samples with their files; the same seed, the same samples."""
    shutil.rmtree(folder, ignore_errors=True)
    samples = tiny_bundle.raw(folder, n=count, seed=seed)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "text", "audio", "label"])
        for number, (name, sample) in enumerate(samples.items()):
            image, audio = (f"raw/{sample[m].name}" if m in sample else "" for m in ("image", "audio"))
            words = sample.get("text", "")
            writer.writerow([f"{seed}{name}", image, words, audio, labels[number % len(labels)]])


def tag(workspace: Workspace, name: str, fields: dict[str, str]) -> None:
    """An annotated tag at HEAD."""
    workspace.run("git", "tag", "--annotate", name, "--message", messages.write("by hand", fields))


def _write_tables(workspace: Workspace) -> None:
    """What ingest, split and evaluate would have made of `rows/`."""
    root = workspace.root
    rows = list(manifest.read(root / "rows/rows.csv", manifest.COLUMNS))
    found = ingest.ingest(rows, limits=Limits(), timeout_s=30, workers=1)
    assert not found.quarantine, found.quarantine
    for row in found.samples:
        for modality in ("image", "audio"):
            if row.get(f"{modality}_path"):
                row[f"{modality}_path"] = str(Path(row[f"{modality}_path"]).relative_to(root))
    tables.write_rows(root / "tables/samples.parquet", found.samples, schema.SAMPLES)
    wanted = zip(found.samples, ["train"] * TRAIN + ["test"] * TRAIN, strict=True)
    splits = [{**_shared(row), "group": row["id"], "split": split} for row, split in wanted]
    tables.write_rows(root / "tables/splits.parquet", splits, schema.SPLIT)
    predictor = load(root / "given", device="cpu")
    tested = found.samples[TRAIN:]
    answers = list(predictor.predict_many(_sample(root, row) for row in tested))
    assert all(isinstance(answer, Prediction) for answer in answers)
    scored = [
        {
            **_shared(row),
            "split": "test",
            "prediction": answer.label,
            "confidence": answer.confidence,
            "modalities": "+".join(answer.modalities),
            "probabilities": list(answer.probabilities.values()),
        }
        for row, answer in zip(tested, answers, strict=True)
    ]
    told = schema.predictions(predictor.bundle.labels)
    tables.write_rows(root / "tables/predictions.parquet", scored, told)


def _shared(row: dict[str, object]) -> dict[str, object]:
    return {name: row[name] for name in ("id", "target")}


def _sample(root: Path, row: dict[str, object]) -> Sample:
    places = (row.get(f"{modality}_path") for modality in ("image", "audio"))
    image, audio = ((root / str(place)).read_bytes() if place else None for place in places)
    return Sample(image, row.get("text"), audio)
