"""Models on the current test split of a workspace, from its raw samples: what the gate compares."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mmpipe import files, gate, paths, schema, tables
from mmpipe.errors import InvalidError, SampleError
from mmpipe.metrics import Floats
from mmpipe.predict import MAX_BYTES, Prediction, Predictor, Sample

TIMED, ROUNDS = 50, 5
"""Samples whose predictions are timed, and how often each: on a busy machine only the fastest tells."""
HASHES = ("image_sha256", "text_sha256", "audio_sha256")


@dataclass(frozen=True)
class Runner:
    """A loaded model that takes part: what people call it, and the folder that it was loaded from."""

    name: str
    folder: Path
    predictor: Predictor


@dataclass(frozen=True)
class TrialSet:
    """The test samples: rows of `schema.SAMPLES`, sorted by id, and the group of each."""

    root: Path
    rows: list[dict[str, Any]]
    groups: list[str]

    @property
    def sha256(self) -> str:
        """Of every sample's id, target and contents' hashes."""
        facts = [[row["id"], row["target"], *(row[name] for name in HASHES)] for row in self.rows]
        return files.sha256(files.canonical_json(facts).encode())

    def raw(self, rows: Sequence[dict[str, Any]] | None = None) -> Iterator[Sample]:
        """All samples or those of some rows, read one by one.

        Raises InvalidError where a file is not the one that was ingested.
        """
        for row in self.rows if rows is None else rows:
            image, audio = (self._bytes(row, modality) for modality in ("image", "audio"))
            yield Sample(image, row["text"], audio)

    def _bytes(self, row: dict[str, Any], modality: str) -> bytes | None:
        name = row[f"{modality}_path"]
        if name is None:
            return None
        fix = "restore the file, or run `dvc repro`"
        try:
            data = files.read_guarded(self.root / name, max_bytes=MAX_BYTES)
        except SampleError as error:
            raise InvalidError(error.code, error.what, where=name, fix=fix) from None
        if files.sha256(data) != row[f"{modality}_sha256"]:
            raise InvalidError("file-changed", "is not the file that was ingested", where=name, fix=fix)
        return data


def read(root: Path) -> TrialSet:
    """The test split of the workspace in `root`. Raises InvalidError `split-too-few` where it is empty."""
    splits = tables.read_rows(root / paths.SPLITS, schema.SPLIT)
    samples = {row["id"]: row for row in tables.read_rows(root / paths.SAMPLES, schema.SAMPLES)}
    chosen = sorted((row for row in splits if row["split"] == "test"), key=lambda row: row["id"])
    if not chosen:
        fix = "raise split.test_fraction, or add samples"
        raise InvalidError("split-too-few", "has no test sample", where=str(root / paths.SPLITS), fix=fix)
    if missing := [row["id"] for row in chosen if row["id"] not in samples]:
        what = f"has no row {missing[0]!r}, which the splits have"
        raise InvalidError("table-schema", what, where=str(root / paths.SAMPLES), fix="run `dvc repro`")
    rows = [{**samples[row["id"]], "target": row["target"]} for row in chosen]
    return TrialSet(root, rows, [row["group"] for row in chosen])


def run(trial: TrialSet, runners: Sequence[Runner]) -> tuple[gate.HeldOut, list[gate.Contender]]:
    """Every runner on every sample, each with its own preprocessing; labels are those of all, sorted.

    Latencies are of single predictions from bytes in memory, taken in turns: the one part of a verdict that
    differs from run to run.
    """
    targets = [row["target"] for row in trial.rows]
    labels = sorted({*targets, *(label for one in runners for label in one.predictor.bundle.labels)})
    index = {label: number for number, label in enumerate(labels)}
    chances = [probabilities(one.predictor, trial, index) for one in runners]
    answered = np.logical_and.reduce([one.any(axis=1) for one in chances])
    times = latencies(trial, [one.predictor for one in runners], answered.tolist())
    held_out = gate.HeldOut(
        np.array([index[target] for target in targets], np.int64),
        np.array(trial.groups),
        labels,
        trial.sha256,
    )
    return held_out, [
        gate.Contender(
            name=one.name,
            probabilities=found,
            known=one.predictor.bundle.labels,
            latency_ms=latency,
            size_bytes=sum(path.stat().st_size for path in one.folder.iterdir()),
            bundle_sha256=one.predictor.bundle.digest,
            judged_on=origin(one.folder).get("test_sha256"),
        )
        for one, found, latency in zip(runners, chances, times, strict=True)
    ]


def probabilities(predictor: Predictor, trial: TrialSet, index: dict[str, int]) -> Floats:
    """(N, K) by the column of each label; a sample that the model refuses is a row of zeros."""
    found = np.zeros((len(trial.rows), len(index)))
    columns = [index[label] for label in predictor.bundle.labels]
    for row, answer in enumerate(predictor.predict_many(trial.raw())):
        if isinstance(answer, Prediction):
            found[row, columns] = list(answer.probabilities.values())
    return found


def latencies(trial: TrialSet, predictors: Sequence[Predictor], answered: Sequence[bool]) -> list[float]:
    """Milliseconds of a single prediction by each: the median over up to `TIMED` samples that all answer."""
    rows = [row for row, good in zip(trial.rows, answered, strict=True) if good] or trial.rows
    chosen = [rows[n] for n in np.linspace(0, len(rows) - 1, min(len(rows), TIMED)).astype(int)]
    samples = list(trial.raw(chosen))
    times = np.empty((1 + ROUNDS, len(samples), len(predictors)))
    for turn, number in product(range(1 + ROUNDS), range(len(samples))):
        for column in np.roll(range(len(predictors)), turn):  # nobody always comes after the same
            start = time.perf_counter()
            list(predictors[column].predict_many([samples[number]]))
            times[turn, number, column] = time.perf_counter() - start
    fastest = times[1:].min(axis=0)  # the first round warms up
    return [float(value) for value in np.median(fastest, axis=0) * 1000]


def origin(folder: Path) -> dict[str, Any]:
    """What a pulled bundle's origin.json says, such as `tag` and the `test_sha256` that it was judged on."""
    path = folder / "origin.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
