"""The rows of a manifest → a table of predictions; a bad row is a row that says why."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpipe import executors, files, manifest, preprocess, sheets, tables
from mmpipe.errors import SampleError, UsageError
from mmpipe.partway import Partway
from mmpipe.predict import BATCH_SIZE, Prediction, Predictor
from mmpipe.preprocess import Features, Refusal
from mmpipe.row import BadRow, Row
from mmpipe.tasks.task import Task

Advance = Callable[[int], object]
"""Told of so many more rows that are done."""
Watch = Callable[[int], AbstractContextManager[Advance]]
"""Given the number of rows, the context in which they are answered."""
COLUMNS = {**manifest.COLUMNS, "target": None}
"""The columns that training expects by default; a target is not needed."""
TIMEOUT_S = 30.0
"""What one row's files may take."""


@contextmanager
def _unwatched(_total: int) -> Iterator[Advance]:
    """Nobody counts along."""
    yield lambda _rows: None


@dataclass(frozen=True)
class Shape:
    """The columns of a task's predictions; `labels`: what the entries of a list stand for, or none."""

    fields: Sequence[pa.Field]
    labels: Sequence[str]

    @property
    def listed(self) -> dict[str, list[str]]:
        """Columns that are lists: a name for each of their entries."""
        wide = {f.name: f.type.list_size for f in self.fields if pa.types.is_fixed_size_list(f.type)}
        return {name: list(self.labels) or [str(n) for n in range(size)] for name, size in wide.items()}

    def spread(self, row: Mapping[str, Any], name: str) -> list[Any]:
        """The entries of a list; None for each where there is none."""
        return row[name] or [None] * len(self.listed[name])


@dataclass(frozen=True)
class Counts:
    """Rows in = predicted + refused; refusals by code."""

    rows: int
    predicted: int
    refused: dict[str, int]


def predict_table(  # noqa: PLR0913  the rows, where they go, and how they are read
    predictor: Predictor,
    source: Path,
    output: Path,
    *,
    columns: Mapping[str, str | None] = COLUMNS,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    watch: Watch = _unwatched,
) -> Counts:
    """Predict every row of a CSV, JSONL or Parquet file or class folder, and write them in the same order.

    The manifest is read twice: to its end before anything is answered, then a batch at a time; no more than
    a batch is held. Files are decoded in worker processes: one that ends or hangs a decoder costs its row.
    `output` ends in .parquet, .jsonl or .csv; it is written as the predictions come, and appears whole, at
    the end. Interrupted, the same call goes on where it was (see `partway`). Raises UsageError for another
    ending and for an output that would overwrite what is read, what `manifest.survey` raises, and
    TemporaryError `file-changed` where the manifest changes meanwhile.
    """
    if output.suffix not in WRITERS:
        what = f"{output.name!r} ends in none of {', '.join(WRITERS)}"
        raise UsageError("usage", what, fix="give --output another ending")
    rows = manifest.survey(source, columns)
    _check_output(output, source, rows)
    counts: Counter[str | None] = Counter()
    task, decoding = predictor.bundle.task, predictor.bundle.decoding
    shape = Shape(task.fields(decoding), decoding.labels)
    partway = Partway(output, _schema(shape), f"{predictor.name} {predictor.bundle.digest}")
    with watch(len(rows)) as advance:
        answered = _answered(predictor, rows, partway, (workers, timeout_s), advance)
        WRITERS[output.suffix](output, _counted(answered, counts), shape)
    partway.clear()
    assert counts.total() == len(rows), "rows are conserved"
    predicted = counts.pop(None, 0)
    refused = {str(code): count for code, count in sorted(counts.items(), key=str)}
    return Counts(len(rows), predicted, refused)


def _check_output(output: Path, source: Path, rows: Iterable[Row | BadRow]) -> None:
    """Raise UsageError where writing `output` would change the manifest or a file that it names."""
    what = ""
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        what = f"lies in {source}, the folder of the samples"
    elif output.exists():
        if output.samefile(source):
            what = "is the table itself"
        elif any(output.samefile(path) for path in _files(rows)):
            what = f"is a file of a sample in {source}"
    if what:
        raise UsageError("usage", what, where=str(output), fix="give --output another name")


def _files(rows: Iterable[Row | BadRow]) -> Iterator[Path]:
    """Those files of rows that are there."""
    for row in rows:
        if isinstance(row, BadRow):
            continue
        for name in (row.image, row.text_path, row.audio):
            try:
                path = row.path_of(name) if name is not None else None
            except SampleError:
                continue
            if path is not None and path.exists():
                yield path


Numbered = tuple[int, Row | BadRow]
Outcome = executors.Done[Numbered, list[Features | Refusal]] | executors.Dead[Numbered]


def _answered(
    predictor: Predictor,
    rows: Iterable[Row | BadRow],
    partway: Partway,
    pool: tuple[int | None, float],
    advance: Advance,
) -> Iterator[pa.Table]:
    """The answers, a batch at a time: no more features are held than those of one."""
    workers, timeout_s = pool
    function = partial(preprocess.of_rows, preprocessor=predictor.preprocessor)
    preload = (preprocess.__name__, *(("torchaudio.transforms",) if _is_exact(predictor) else ()))
    count, remaining = workers or executors.worker_count(), iter(rows)
    with executors.crew(function, workers=count, timeout_s=timeout_s, preload=preload) as mapped:
        while some := list(islice(remaining, BATCH_SIZE)):
            table = partway.read(some)
            if table is None:
                numbered = list(enumerate(some))
                size = -(-len(some) // (4 * count))
                shards = [numbered[start : start + size] for start in range(0, len(some), size)]
                answers = predictor.answer(_in_order(mapped(shards), len(some), advance))
                table = _table(some, answers, predictor.bundle.task, partway.schema)
                partway.write(some, table)
            else:
                advance(len(some))
            yield table


def _counted(parts: Iterable[pa.Table], counts: Counter[str | None]) -> Iterator[pa.Table]:
    """The same; adds to `counts` by code, None = predicted."""
    for part in parts:
        counts.update(part["code"].to_pylist())
        yield part


def _in_order(outcomes: Iterable[Outcome], count: int, advance: Advance) -> list[Features | Refusal]:
    """What workers made of `count` numbered rows; a row that ended its worker is refused."""
    found: dict[int, Features | Refusal] = {}
    for outcome in outcomes:
        if isinstance(outcome, executors.Dead):
            found[outcome.item[0]] = Refusal(outcome.code, outcome.what)
            advance(1)
        else:
            found.update(zip((number for number, _ in outcome.items), outcome.result, strict=True))
            advance(len(outcome.items))
    return [found[number] for number in range(count)]


def _is_exact(predictor: Predictor) -> bool:
    """Whether workers need torch, which takes two seconds to import: once for all of them."""
    return predictor.preprocessor.settings.get("audio", {}).get("mode") == "exact"


def _schema(shape: Shape) -> pa.Schema:
    """A row has either a prediction or a code."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            *shape.fields,
            pa.field("modalities", pa.string()),  # those used, joined by "+"
            pa.field("code", pa.string()),
            pa.field("message", pa.string()),
            pa.field("model", pa.string()),  # tag or folder name
            pa.field("bundle_sha256", pa.string()),
        ],
        metadata={"labels": json.dumps(list(shape.labels), ensure_ascii=False)},
    )


def _table(
    rows: Sequence[Row | BadRow], answers: Sequence[Prediction | Refusal], task: Task, schema: pa.Schema
) -> pa.Table:
    """The rows of the output."""
    cells = [{"id": row.id, **_cells(answer, task)} for row, answer in zip(rows, answers, strict=True)]
    return pa.Table.from_pylist(cells, schema)


def _cells(answer: Prediction | Refusal, task: Task) -> dict[str, Any]:
    if isinstance(answer, Refusal):
        return {"code": answer.code, "message": answer.what}
    return {
        **task.cells(answer),
        "modalities": "+".join(answer.modalities),
        "model": answer.model,
        "bundle_sha256": answer.bundle_sha256,
    }


def _write_parquet(path: Path, parts: Iterable[pa.Table], shape: Shape) -> None:
    tables.write_parts(path, parts, _schema(shape))


def _write_jsonl(path: Path, parts: Iterable[pa.Table], shape: Shape) -> None:
    """One object a line, without the cells that are null; a list of figures by label."""
    with files.atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in _rows(parts):
            some = {key: value for key, value in row.items() if value is not None}
            if "modalities" in some:
                some["modalities"] = some["modalities"].split("+")
            for name in shape.listed if shape.labels else ():
                if name in some:
                    some[name] = dict(zip(shape.labels, some[name], strict=True))
            file.write(json.dumps(some, ensure_ascii=False) + "\n")


def _write_csv(path: Path, parts: Iterable[pa.Table], shape: Shape) -> None:
    """A list of figures has a column a label, `probability LABEL`, or a number."""
    plain = [name for name in _schema(shape).names if name not in shape.listed]
    wide = [f"{name} {end}" for name, ends in shape.listed.items() for end in ends]
    cells = (
        [*(row[name] for name in plain), *(cell for name in shape.listed for cell in shape.spread(row, name))]
        for row in _rows(parts)
    )
    sheets.write(path, [*plain, *(name.replace("probabilities ", "probability ") for name in wide)], cells)


def _rows(parts: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from part.to_pylist()


WRITERS = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": _write_csv}
"""By the ending of the output's name."""
