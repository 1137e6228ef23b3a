"""A workspace with real small files, their features and an untrained bundle."""

import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import soundfile
import tiny
import torch

from mmpipe import batches, paths, schema, tables, targets
from mmpipe.features import audio, image, text
from mmpipe.model.checkpoint import save_bundle
from mmpipe.model.network import build_model
from mmpipe.tasks import transcribe
from mmpipe.tasks.task import Held, Output, Writing
from mmpipe.transcripts import units

LABELS = ["bass", "=tenor", "voice"]
CODING = targets.Coding("label", tuple(LABELS))
WORDS = ["a low one", "high and thin", "spoken words", "a long sentence about nothing at all", "one", "two"]
SETTINGS = {
    "audio": {
        "sample_rate": 8000,
        "n_fft": 256,
        "hop_length": 128,
        "n_mels": 8,
        "max_duration_s": 2.0,
        "mode": "fast",
    },
    "image": {"size": 16, "mode": "fast"},
    "text": {"vocab_size": 300, "max_tokens": 16, "lowercase": True},
}
SPOKEN = units.fit(WORDS)
WRITTEN = transcribe.TASK.fit(
    Held(Output(torch.zeros(0, SPOKEN.size), {}), torch.zeros(0, 1, dtype=torch.int64), {}),
    targets.Coding("text", units=SPOKEN, texts=tuple(WORDS)),
    Writing(width=4, order=3),
)
TASKS = {
    "classify": (3, LABELS, {}),
    "multilabel": (3, LABELS, {"thresholds": [0.5, 0.3, 0.7]}),
    "regress": (1, [], {"mean": 1000.0, "deviation": 50.0}),
    "retrieve": (12, [], {"modalities": list(schema.MODALITIES), "width": 12}),
    "answer": (SPOKEN.size, [], {"units": json.loads(SPOKEN.to_json())}),
    "transcribe": (SPOKEN.size, [], WRITTEN.facts),
}
"""Of each: the width of its output, its labels, what decodes it."""
FACTS = {
    "audio": {"dtype": "float16", "shape": [-1, 8]},
    "image": {"dtype": "uint8", "shape": [16, 16, 3]},
    "text": {"dtype": "int32", "shape": [-1]},
}


def picture(rng) -> bytes:
    return cv2.imencode(".png", rng.integers(0, 255, (20, 30, 3), np.uint8))[1].tobytes()


def sound(rng) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, rng.normal(0, 0.2, int(rng.integers(3000, 9000))), 8000, format="WAV")
    return out.getvalue()


def raw(root: Path, *, n=30, seed=0) -> dict[str, dict[str, object]]:
    """`n` samples by id, each with files below `root/raw` and words; some lack one or two modalities."""
    rng = np.random.default_rng(seed)
    (root / "raw").mkdir(parents=True)
    found = {}
    for number in range(n):
        name = f"s{number:03d}"
        sample = {"text": WORDS[number % len(WORDS)]}
        for modality, ending, make in (("image", "png", picture), ("audio", "wav", sound)):
            (root / "raw" / f"{name}.{ending}").write_bytes(make(rng))
            sample[modality] = root / "raw" / f"{name}.{ending}"
        for modality in list(sample):
            if len(sample) > 1 and rng.random() < 0.25:
                del sample[modality]
        found[name] = sample
    return found


def feature(modality: str, value, tokenizer: str) -> np.ndarray:
    """As extraction makes it."""
    if modality == "text":
        return text.encode([value], tokenizer, max_tokens=16)[0]
    module = {"audio": audio, "image": image}[modality]
    return module.extract(value.read_bytes(), **SETTINGS[modality])


def write(
    root: Path, *, modalities=schema.MODALITIES, seed=0, task="classify", turns=None
) -> dict[str, dict[str, object]]:
    """Raw files, features, splits, `data/trained` and `models/fusion`. Returns the raw samples by id.

    `turns`: of a dialogue, those that the model reads before the question.
    """
    samples = raw(root, seed=seed)
    tokenizer = text.fit(WORDS, vocab_size=300, lowercase=True)
    for m in schema.MODALITIES:
        having = [name for name in samples if m in samples[name]]
        arrays = [feature(m, samples[name][m], tokenizer) for name in having]
        table = tiny.feature_table(having, arrays, FACTS[m]["shape"], FACTS[m]["dtype"])
        tables.write(root / paths.features(m) / "part-00000.parquet", table)
    rows = [
        {
            "id": name,
            "split": ("test", "val", "test", "train")[n % 4],
            "group": f"g{n // 6}",
            "target": LABELS[n % 3],
        }
        for n, name in enumerate(samples)
    ]
    tables.write_rows(root / paths.SPLITS, rows, schema.SPLIT)
    bundle(root, tokenizer, list(modalities), task, turns)
    return samples


def bundle(root: Path, tokenizer: str, modalities: list[str], task: str, turns: int | None = None) -> None:
    width, labels, facts = TASKS[task]
    torch.set_num_threads(1)  # spinning threads cost more than they give on nets this small
    torch.manual_seed(1)
    architecture = {
        "modalities": modalities,
        "task": task,
        "classes": width,
        "dim": 16,
        "dropout": 0.1,
        "fusion": "concat",
    }
    architecture |= {"text": "words"} if task == "transcribe" else {}
    architecture |= {"writer": {"tokens": 6, "search": "beam", "width": 3}} if task == "answer" else {}
    architecture |= {"n_mels": 8, "vocab_size": text.vocab_size(tokenizer), "image_flip": False}
    network = build_model(**architecture)
    features = {m: root / paths.features(m) for m in modalities}
    network.fit_statistics(batches.load(features, root / paths.SPLITS, "train", coding=CODING))
    for parameter in network.parameters():  # far from the start, so that every input tells
        torch.nn.init.normal_(parameter, 0, 0.3)
    config = {
        "labels": labels,
        "task": task,
        "temperature": 1.5,
        "decoding": facts,
        "preprocessing": {m: SETTINGS[m] | ({"turns": turns} if m == "text" else {}) for m in modalities},
        "features": {m: FACTS[m] for m in modalities},
    }
    save_bundle(
        root / paths.TRAINED,
        network.eval(),
        config=config,
        architecture=architecture,
        metrics={},
        tokenizer=tokenizer if "text" in modalities else None,
        arrays=WRITTEN.arrays if task == "transcribe" else {},
    )
    shutil.copytree(root / paths.TRAINED, root / paths.BUNDLE)
