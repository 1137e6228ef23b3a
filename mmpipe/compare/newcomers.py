"""Samples of a table or landing folder that a model was not made from, read and predicted as it would."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mmpipe import ingest, manifest, schema, trial
from mmpipe.compare.samples import content
from mmpipe.inspection import Limits
from mmpipe.predict import Predictor, Refusal


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
    target: ingest.Target,
) -> Newcomers:
    """Every good sample of a source whose content is not `known` (see `samples.content`).

    `target`: of the kind `none`, the source need not have any.

    Raises as `manifest.read` and `ingest.ingest` do.
    """
    apart = {"group": None, "split": None, **({"target": None} if target.kind == "none" else {})}
    rows = manifest.read_all(source, {**columns, **apart})
    if not rows:
        return Newcomers(schema.SAMPLES.empty_table(), 0, 0)
    found = ingest.ingest(rows, limits=limits, timeout_s=timeout_s, target=target)
    empty = dict.fromkeys(schema.SAMPLES.names)
    samples = [{**empty, **row} for row in found.samples]
    new = [row for row in samples if content(row) not in known]
    table = pa.Table.from_pylist(new, schema.SAMPLES)
    return Newcomers(table, len(samples) - len(new), len(found.quarantine))


def predicted(predictor: Predictor, samples: pa.Table) -> pa.Table:
    """What a model says of each sample but those refused, in its task's own columns.

    Paths count from the current folder. Raises InvalidError `file-changed` where a file is another by now.
    """
    task, decoding = predictor.bundle.task, predictor.bundle.decoding
    answers = predictor.predict_many(trial.raw(Path(), samples.to_pylist()))
    cells = [task.cells(answer) for answer in answers if not isinstance(answer, Refusal)]
    return pa.Table.from_pylist(cells, pa.schema(task.fields(decoding)))
