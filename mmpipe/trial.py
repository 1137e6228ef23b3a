"""Models on the raw samples of the current test split: what the gate compares."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mmpipe import bundle, files
from mmpipe.errors import InvalidError, SampleError
from mmpipe.features.extractor import MAX_FILE_BYTES
from mmpipe.predict import Prediction, Predictor, Sample
from mmpipe.tasks.task import Task
from mmpipe.testset import HeldOut as TestSet
from mmpipe.verdict import Contender, HeldOut

TIMED, ROUNDS = 50, 5
"""Samples whose predictions are timed, and how often each: on a busy machine only the fastest tells."""
NO_TURNS = "reads a dialogue as one text: where it is too long, the end is cut off, which is the question"
FIX = "restore the file, or run `dvc repro`"


@dataclass(frozen=True)
class Runner:
    """A loaded model that takes part: what people call it, and the folder that it was loaded from."""

    name: str
    folder: Path
    predictor: Predictor


def run(root: Path, test: TestSet, runners: Sequence[Runner]) -> tuple[HeldOut, list[Contender]]:
    """Every runner on every sample, each with its own preprocessing; all of one task.

    `root`: the workspace. Latencies are of single predictions from bytes in memory, taken in turns: the one
    part of a verdict that differs from run to run. Raises InvalidError where a file is not the ingested one,
    and `split-too-few` where there is no sample.
    """
    if not test.rows:
        fix = "raise split.test_fraction, or add samples"
        raise InvalidError("split-too-few", "there is no test sample to judge on", fix=fix)
    task = _task(runners)
    wanted, labels = task.truth(test.rows, [one.predictor.bundle.decoding for one in runners])
    predictors = [one.predictor.trusting() for one in runners]
    answers = [_answers(predictor, raw(root, test.rows)) for predictor in predictors]
    answered = [all(said) for said in zip(*answers, strict=True)]
    rows = [row for row, good in zip(test.rows, answered, strict=True) if good] or test.rows
    times = latencies(predictors, list(raw(root, _spread(rows, TIMED))))
    return HeldOut(wanted, np.array(test.groups), labels, test.sha256), [
        Contender(
            name=one.name,
            answers=task.given(found, labels),
            known=one.predictor.bundle.labels,
            latency_ms=latency,
            size_bytes=_size(one.folder),
            bundle_sha256=one.predictor.bundle.digest,
            judged_on=one.predictor.bundle.metrics.get("test_sha256"),
        )
        for one, found, latency in zip(runners, answers, times, strict=True)
    ]


def _task(runners: Sequence[Runner]) -> Task:
    """What all of them were trained for. Raises InvalidError `task-differs`."""
    first = runners[-1]
    for one in runners:
        if one.predictor.bundle.task_name != first.predictor.bundle.task_name:
            what = (
                f"{one.name} is a model of {one.predictor.bundle.task_name}, "
                f"{first.name} of {first.predictor.bundle.task_name}: no figure compares them"
            )
            raise InvalidError("task-differs", what)
    return first.predictor.bundle.task


def _answers(predictor: Predictor, samples: Iterator[Sample]) -> list[Prediction | None]:
    """None where the model refuses."""
    found = predictor.predict_many(samples)
    return [answer if isinstance(answer, Prediction) else None for answer in found]


def raw(root: Path, rows: Sequence[dict[str, Any]]) -> Iterator[Sample]:
    """The samples of rows of `schema.SAMPLES`, read one by one, each file checked against its hash."""
    for row in rows:
        image, audio = (_bytes(root, row, modality) for modality in ("image", "audio"))
        yield Sample(image, row["text"], audio)


def notes(runners: Sequence[Runner]) -> list[str]:
    """Of test samples that are dialogues: which models were trained on texts without turns."""
    reading = [one for one in runners if "text" in one.predictor.modalities]
    return [f"{one.name} {NO_TURNS}." for one in reading if one.predictor.turns is None]


def latencies(predictors: Sequence[Predictor], samples: Sequence[Sample]) -> list[float]:
    """Milliseconds of a single prediction by each: the median over samples of the fastest of some rounds."""
    times = np.empty((1 + ROUNDS, len(samples), len(predictors)))
    for turn, number in product(range(1 + ROUNDS), range(len(samples))):
        for column in np.roll(range(len(predictors)), turn):  # nobody always comes after the same
            start = time.perf_counter()
            list(predictors[column].predict_many([samples[number]]))
            times[turn, number, column] = time.perf_counter() - start
    fastest = times[1:].min(axis=0)  # the first round warms up
    return [float(value) for value in np.median(fastest, axis=0) * 1000]


def _bytes(root: Path, row: dict[str, Any], modality: str) -> bytes | None:
    name = row[f"{modality}_path"]
    if name is None:
        return None
    try:
        data = files.read_guarded(root / name, max_bytes=MAX_FILE_BYTES)
    except SampleError as error:
        raise InvalidError(error.code, error.what, where=name, fix=FIX) from None
    if files.sha256(data) != row[f"{modality}_sha256"]:
        raise InvalidError("file-changed", "is not the file that was ingested", where=name, fix=FIX)
    return data


def _spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` of them, evenly over all."""
    return [rows[n] for n in np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]


def _size(folder: Path) -> int:
    """Bytes of a bundle's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != bundle.ORIGIN)
