"""Samples of a table or landing folder that a model was not made from, read and predicted as it would."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from mmpipe import ingest, manifest, schema, trial
from mmpipe.compare.samples import content
from mmpipe.inspection import Limits
from mmpipe.predict import Predictor
from mmpipe.row import BadRow, Row
from mmpipe.tasks.classify import LabelPrediction

NO_LABEL = "?"
"""Where labels do not count: the tables of samples want one."""


@dataclass(frozen=True)
class Newcomers:
    """`samples`: of `schema.SAMPLES`. Rows found = samples + known + aside."""

    samples: pa.Table
    known: int
    aside: int


def read(
    source: Path,
    columns: Mapping[str, str | None],
    limits: Limits,
    *,
    timeout_s: float,
    known: Collection[tuple[str | None, ...]],
    labelled: bool,
) -> Newcomers:
    """Every good sample of a source whose content is not `known` (see `samples.content`).

    Raises as `manifest.read` and `ingest.ingest` do.
    """
    rows = _rows(source, {**columns, "group": None, "split": None}, labelled=labelled)
    if not rows:
        return Newcomers(schema.SAMPLES.empty_table(), 0, 0)
    found = ingest.ingest(rows, limits=limits, timeout_s=timeout_s)
    empty = dict.fromkeys(schema.SAMPLES.names)
    samples = [{**empty, **row} for row in found.samples]
    new = [row for row in samples if content(row) not in known]
    table = pa.Table.from_pylist(new, schema.SAMPLES)
    return Newcomers(table, len(samples) - len(new), len(found.quarantine))


def predicted(predictor: Predictor, samples: pa.Table) -> pa.Table | None:
    """`prediction` and `confidence` of each sample but those refused; None for a model that gives no label.

    Paths count from the current folder.
    Raises InvalidError `file-changed` where a file is another by now.
    """
    if predictor.bundle.task.answer is not LabelPrediction:
        return None
    answers = predictor.predict_many(trial.raw(Path(), samples.to_pylist()))
    good = [answer for answer in answers if isinstance(answer, LabelPrediction)]
    return pa.table(
        {
            "prediction": pa.array([answer.label for answer in good], pa.string()),
            "confidence": pa.array([answer.confidence for answer in good], pa.float32()),
        }
    )


def _rows(source: Path, columns: Mapping[str, str | None], *, labelled: bool) -> Sequence[Row | BadRow]:
    if labelled:
        return manifest.read_all(source, columns)
    rows = manifest.read_all(source, {**columns, "target": None})
    return [replace(row, target=NO_LABEL) if isinstance(row, Row) else row for row in rows]
