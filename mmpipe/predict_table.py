"""The rows of a manifest → a table of predictions; a bad row is a row that says why."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpipe import files, manifest, sheets, tables
from mmpipe.errors import SampleError, UsageError
from mmpipe.manifest import BadRow, Row
from mmpipe.media import text
from mmpipe.predict import BATCH_SIZE, MAX_BYTES, Prediction, Predictor, Refusal, Sample

COLUMNS = {**manifest.COLUMNS, "target": None}
"""The columns that training expects by default; a target is not needed."""


@dataclass(frozen=True)
class Counts:
    """Rows in = predicted + refused; refusals by code."""

    rows: int
    predicted: int
    refused: dict[str, int]


def predict_table(
    predictor: Predictor,
    source: Path,
    output: Path,
    *,
    columns: Mapping[str, str | None] = COLUMNS,
    advance: Callable[[int], object] | None = None,
) -> Counts:
    """Predict every row of a CSV, JSONL or Parquet file or class folder, and write them in the same order.

    `output` ends in .parquet, .jsonl or .csv and is written whole, at the end. `advance` is told the number
    of rows after each batch. Raises UsageError for another ending, and as `manifest.read` does.
    """
    if output.suffix not in WRITERS:
        what = f"{output.name!r} ends in none of {', '.join(WRITERS)}"
        raise UsageError("usage", what, fix="give --output another ending")
    rows, parts = iter(manifest.read(source, columns)), []
    while some := list(islice(rows, BATCH_SIZE)):
        parts.append(_table(some, list(_answers(predictor, some)), predictor.bundle.labels))
        if advance is not None:
            advance(len(some))
    table = pa.concat_tables([_schema(predictor.bundle.labels).empty_table(), *parts])
    WRITERS[output.suffix](output, table, predictor.bundle.labels)
    refused = table["code"].drop_null().to_pylist()
    by_code = {code: refused.count(code) for code in sorted(set(refused))}
    return Counts(len(table), len(table) - len(refused), by_code)


def _answers(predictor: Predictor, rows: Sequence[Row | BadRow]) -> Iterator[Prediction | Refusal]:
    read = [_read(row, predictor.modalities) for row in rows]
    predicted = predictor.predict_many([one for one in read if isinstance(one, Sample)])
    for one in read:
        yield one if isinstance(one, Refusal) else next(predicted)


def _read(row: Row | BadRow, modalities: Sequence[str]) -> Sample | Refusal:
    """Where the row's files lie and what its text is; nothing leaves the manifest's folder."""
    if isinstance(row, BadRow):
        return Refusal(row.code, row.what)
    places = {m: getattr(row, m) for m in ("audio", "image") if m in modalities}
    try:
        found = {m: files.safe_join(row.folder, name) for m, name in places.items() if name is not None}
        sample = Sample(text=row.text, **found)
        if row.text_path is not None and "text" in modalities:
            data = files.read_guarded(files.safe_join(row.folder, row.text_path), max_bytes=MAX_BYTES)
            sample = replace(sample, text=text.decode(data))
    except SampleError as error:
        return Refusal(error.code, error.what)
    return sample


def _schema(labels: Sequence[str]) -> pa.Schema:
    """A row has either a prediction or a code."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("prediction", pa.string()),
            pa.field("confidence", pa.float32()),
            pa.field("modalities", pa.string()),  # those used, joined by "+"
            pa.field("probabilities", pa.list_(pa.float32(), len(labels))),
            pa.field("code", pa.string()),
            pa.field("message", pa.string()),
            pa.field("model", pa.string()),  # tag or folder name
            pa.field("bundle_sha256", pa.string()),
        ],
        metadata={"labels": json.dumps(list(labels), ensure_ascii=False)},
    )


def _table(
    rows: Sequence[Row | BadRow], answers: Sequence[Prediction | Refusal], labels: Sequence[str]
) -> pa.Table:
    cells = [{"id": row.id, **_cells(answer)} for row, answer in zip(rows, answers, strict=True)]
    return pa.Table.from_pylist(cells, _schema(labels))


def _cells(answer: Prediction | Refusal) -> dict[str, Any]:
    if isinstance(answer, Refusal):
        return {"code": answer.code, "message": answer.what}
    return {
        "prediction": answer.label,
        "confidence": answer.confidence,
        "modalities": "+".join(answer.modalities),
        "probabilities": list(answer.probabilities.values()),
        "model": answer.model,
        "bundle_sha256": answer.bundle_sha256,
    }


def _write_parquet(path: Path, table: pa.Table, _labels: Sequence[str]) -> None:
    tables.write(path, table)


def _write_jsonl(path: Path, table: pa.Table, labels: Sequence[str]) -> None:
    """One object a line, without the cells that are null; probabilities by label."""
    lines = []
    for row in table.to_pylist():
        if row["probabilities"] is not None:
            row["probabilities"] = dict(zip(labels, row["probabilities"], strict=True))
            row["modalities"] = row["modalities"].split("+")
        lines.append(json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False) + "\n")
    files.write_bytes(path, "".join(lines).encode())


def _write_csv(path: Path, table: pa.Table, labels: Sequence[str]) -> None:
    """One column a label, `probability LABEL`."""
    plain = [name for name in table.column_names if name != "probabilities"]
    blank = [None] * len(labels)
    rows = ([*(row[name] for name in plain), *(row["probabilities"] or blank)] for row in table.to_pylist())
    sheets.write(path, [*plain, *(f"probability {label}" for label in labels)], rows)


WRITERS = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": _write_csv}
"""By the ending of the output's name."""
