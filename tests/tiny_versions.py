"""Small workspaces whose tables, metrics, fingerprints and bundle are written by hand, to be compared."""

import hashlib
import json
from pathlib import Path

from typer.testing import CliRunner

from mmpipe import bundle, files, paths, schema, tables
from mmpipe.cli import app
from mmpipe.compare import difference, side

LABELS = ["bass", "tenor"]
LIBRARIES = {"mmpipe": "0.1.0", "numpy": "2.4.6"}
MACHINE = {"device": "cpu", "kind": "AVX512"}
PARAMS = "train:\n  lr: 0.001\n  epochs: 3\nimage: {size: 32}\n"
ROWS = {
    # id: target, split, prediction, content of image, text, audio and its seconds
    "a": ("bass", "test", "bass", "i1", "low", ("s1", 1.0)),
    "b": ("bass", "test", "tenor", "i2", "lower", ("s2", 2.0)),
    "c": ("tenor", "test", "tenor", None, "high", None),
    "d": ("tenor", "test", "bass", "i4", None, ("s4", 4.0)),
    "e": ("tenor", "train", None, "i5", "higher", None),
    "f": ("bass", "val", "bass", "i6", "very low", None),
}


def digest(words: str | None) -> str | None:
    return None if words is None else hashlib.sha256(words.encode()).hexdigest()


def sample(name: str, row) -> dict[str, object]:
    target, _, _, image, text, audio = row
    empty = dict.fromkeys(schema.SAMPLES.names)
    found = empty | {"id": name, "source": "m.csv:1", "target": target, "warnings": []}
    if image is not None:
        found |= {"image_path": image, "image_sha256": digest(image), "image_width": 40, "image_height": 30}
    if text is not None:
        found |= {"text": text, "text_sha256": digest(text)}
    if audio is not None:
        found |= {"audio_path": audio[0], "audio_sha256": digest(audio[0]), "audio_duration_s": audio[1]}
    return found


def prediction(name: str, row, labels: list[str]) -> dict[str, object]:
    target, split, given, *_ = row
    told = {"id": name, "split": split, "target": target, "prediction": given, "confidence": 0.9}
    return told | {"modalities": "text", "probabilities": [1 / len(labels)] * len(labels)}


def evaluation(accuracy: float, recalls: dict[str, float]) -> dict[str, object]:
    classes = [
        {"label": label, "precision": 1.0, "recall": recall, "f1": recall / 2, "support": 2}
        for label, recall in recalls.items()
    ]
    return {
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": accuracy + 0.1,
        "ece": 0.05,
        "samples": 4,
        "per_class": classes,
        "subsets": {
            "text": {"accuracy": accuracy, "accuracy_95": [accuracy - 0.2, accuracy + 0.2], "samples": 3}
        },
        "fusion_gain": {"over": "text", "accuracy": 0.1, "accuracy_low": 0.0, "accuracy_high": 0.2},
    }


def write(
    root: Path,
    rows=ROWS,
    *,
    params: str = PARAMS,
    accuracy: float = 0.5,
    recalls: dict[str, float] | None = None,
    libraries: dict[str, str] = LIBRARIES,
    weights: bytes = b"weights",
) -> Path:
    """A workspace, as if its pipeline had run."""
    labels = sorted({row[0] for row in rows.values()})
    files.write_bytes(root / paths.PIPELINE, b"artifacts: {fusion: {path: models/fusion, type: model}}\n")
    files.write_bytes(root / paths.PARAMS, params.encode())
    tables.write_rows(root / paths.SAMPLES, [sample(n, r) for n, r in sorted(rows.items())], schema.SAMPLES)
    splits = [
        {"id": name, "split": row[1], "group": name, "target": row[0]} for name, row in sorted(rows.items())
    ]
    tables.write_rows(root / paths.SPLITS, splits, schema.SPLIT)
    scored = [prediction(name, row, labels) for name, row in sorted(rows.items()) if row[2] is not None]
    tables.write_rows(root / paths.PREDICTIONS, scored, schema.predictions(labels))
    found = evaluation(accuracy, recalls or {"bass": 0.5, "tenor": 0.5})
    files.write_json(root / paths.METRICS / "evaluate.json", found)
    files.write_json(root / paths.METRICS / "train.json", {"parameters": 1000, "val_loss": 0.5})
    files.write_json(root / paths.code_fingerprint("train"), {"modules": {"mmpipe.train": weights.hex()}})
    config = {
        "labels": labels,
        "libraries": libraries,
        "machine": MACHINE,
        "params": {"train": {"lr": 0.001}},
    }
    contents = {
        bundle.WEIGHTS: weights,
        bundle.CONFIG: json.dumps(config).encode(),
        bundle.METRICS: files.canonical_json({"test": found, "validation": {"val_loss": 0.5}}).encode(),
    }
    bundle.write(root / paths.BUNDLE, contents)
    return root


def changed_rows():
    """b and d flip; a's picture, c's label and e's split change; f goes, g comes, h is f under another id."""
    rows = dict(ROWS)
    f = rows.pop("f")
    return rows | {
        "a": ("bass", "test", "bass", "other", "low", ("s1", 1.0)),
        "b": ("bass", "test", "bass", "i2", "lower", ("s2", 2.0)),
        "c": ("bass", "test", "bass", None, "high", None),
        "d": ("tenor", "test", "bass", "i4", "now with text", ("s4b", 6.0)),
        "e": ("tenor", "test", "tenor", "i5", "higher", None),
        "g": ("alto", "train", None, None, "between", ("s7", 5.0)),
        "h": f,
    }


def write_changed(root: Path) -> Path:
    """A workspace with those rows, and other parameters, figures, libraries and weights."""
    return write(
        root,
        changed_rows(),
        params="train:\n  lr: 0.01\n  patience: 5\nimage: {size: 32}\n",
        accuracy=0.75,
        recalls={"alto": 1.0, "bass": 1.0, "tenor": 0.5},
        libraries={"mmpipe": "0.2.0", "numpy": "2.4.6", "torch": "2.11.0"},
        weights=b"other weights",
    )


def compare(old, new):
    """What `mmpipe diff` finds between two folders or tags."""
    return difference.compare(side.read(str(old)), side.read(str(new)))


def call(*arguments):
    """`mmpipe diff`."""
    return CliRunner().invoke(app, ["diff", *map(str, arguments)], catch_exceptions=False)
