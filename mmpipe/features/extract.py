"""Samples → one feature table of a modality; only content that the store does not have is computed.

The table is a function of the samples and the extractor alone: not of the number of workers, of what the
store held, or of the order in which features were computed.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmpipe import executors, fingerprint, schema, tables
from mmpipe.errors import MmpipeError, SampleError, TooManyBadRowsError, VerificationError
from mmpipe.executors import Beat, Dead, Done
from mmpipe.features.extractor import Extractor, Item
from mmpipe.features.store import PART_BYTES, PartLostError, Store
from mmpipe.progress import bar

SHARD_BYTES = 32 << 20
"""Largest sum of values of a shard of the table."""
MAX_FAILED_FRACTION = 0.05
TIMEOUT_S = 300.0
"""Ten times what ingest allows by default: it has decoded the same bytes, so this ends only a hang."""
NEUTRAL = ("errors", "files", "weights")
"""Of what extractors import, this changes no stored value: failures are not stored, and what was read is
checked against the hash that its value is stored under, or that the fingerprint has.
"""
_ATTEMPTS = 3
_IN_PROCESS = frozenset({"text"})
"""No foreign decoder runs there, and it is quicker than a worker starts."""


@dataclass
class Counts:
    """Rows that have the modality = ok + failed = computed + from the store."""

    modality: str
    rows: int
    failed: int = 0
    computed: int = 0
    damaged_parts: int = 0
    failures: list[str] = field(default_factory=list)
    """A message for every failed row."""

    def __str__(self) -> str:
        ok, stored = self.rows - self.failed, self.rows - self.computed
        words = (
            f"extract {self.modality}: rows in {self.rows} = ok {ok} + failed {self.failed}; "
            f"computed {self.computed}, from store {stored}"
        )
        return (
            f"{words} ({self.damaged_parts} damaged parts removed from it)" if self.damaged_parts else words
        )

    def check(self) -> None:
        """Raise TooManyBadRowsError where more rows failed than a few."""
        if self.failed > MAX_FAILED_FRACTION * self.rows:
            what = f"{self.failed} of {self.rows} rows with {self.modality} failed since they were ingested"
            raise TooManyBadRowsError(
                "too-many-bad-rows", what, fix="mend the first of the faults named above"
            )


def extract(
    samples: pa.Table,
    extractor: Extractor,
    *,
    out: Path,
    store: Path,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Counts:
    """Write the feature table of `samples` (`schema.SAMPLES`) to the folder `out`, replacing it.

    `store` is the folder for all modalities, `timeout_s` the budget for one sample. A failed sample is a row
    with an error.
    """
    rows = _Rows.of(samples, extractor.modality)
    counts = Counts(extractor.modality, len(rows.items))
    described = _schema(extractor)
    shelf = Store(store / extractor.modality / _fingerprint(extractor), described.field("value").type)
    errors: dict[str, SampleError] = {}
    done: set[str] = set()
    for _ in range(_ATTEMPTS):
        missing = _missing(rows, shelf, errors, counts)
        errors |= _compute(missing, extractor, shelf, workers, timeout_s)
        done |= {item.sha256 for item in missing}
        try:
            _write(rows, described, shelf, errors, out)
            break
        except PartLostError:
            counts.damaged_parts += 1 + shelf.verify()
    else:
        raise VerificationError("store-damaged", "loses what is written to it", where=str(shelf.folder))
    shelf.compact()
    shelf.tidy()
    bad = [(row, errors[item.sha256]) for row, item in enumerate(rows.items) if item.sha256 in errors]
    counts.failures = [
        str(MmpipeError(e.code, e.what, where=rows.places[r], done="left out")) for r, e in bad
    ]
    counts.failed = len(bad)
    counts.computed = sum(item.sha256 in done for item in rows.items)
    return counts


@dataclass(frozen=True)
class _Rows:
    """The samples that have the modality, by id; `places`: manifest:row (id), for people."""

    ids: pa.Array
    items: list[Item]
    places: list[str]

    @classmethod
    def of(cls, samples: pa.Table, modality: str) -> "_Rows":
        content = "text" if modality == "text" else f"{modality}_path"
        table = samples.select(["id", "source", f"{modality}_sha256", content])
        there = table.filter(pc.is_valid(table[2])).sort_by("id")
        items = [Item(*pair) for pair in zip(there[2].to_pylist(), there[3].to_pylist(), strict=True)]
        names = zip(there["source"].to_pylist(), there["id"].to_pylist(), strict=True)
        return cls(there["id"].combine_chunks(), items, [f"{source} ({name})" for source, name in names])

    @property
    def keys(self) -> list[bytes]:
        return [bytes.fromhex(item.sha256) for item in self.items]


def _schema(extractor: Extractor) -> pa.Schema:
    """Of the feature table, with the extractor's facts as metadata."""
    facts = extractor.facts
    fixed = -1 not in json.loads(facts["shape"])
    value = pa.binary(extractor.max_bytes) if fixed else pa.large_binary()
    return schema.feature(value).with_metadata(facts)


def _fingerprint(extractor: Extractor) -> str:
    """Of all that a stored feature depends on besides the content."""
    code = fingerprint.of_modules(*extractor.modules, without=NEUTRAL)
    return fingerprint.digest(code, extractor.depends_on)


def _missing(rows: _Rows, shelf: Store, errors: dict[str, SampleError], counts: Counts) -> list[Item]:
    """Each content once that is neither in the store nor known to fail."""
    index = shelf.index()
    counts.damaged_parts += index.damaged
    found = zip(rows.items, index.rows(rows.keys).tolist(), strict=True)
    once = {item.sha256: item for item, row in found if row < 0 and item.sha256 not in errors}
    return list(once.values())


def _compute(
    items: list[Item], extractor: Extractor, shelf: Store, workers: int | None, timeout_s: float
) -> dict[str, SampleError]:
    """Put the features of items into the store; sha256 → error of those that have none."""
    errors: dict[str, SampleError] = {}
    with bar(f"extract {extractor.modality}", len(items)) as advance:
        for outcome in _outcomes(items, extractor, shelf, workers, timeout_s):
            if isinstance(outcome, Dead):
                errors[outcome.item.sha256] = SampleError(outcome.code, outcome.what)
                advance(1)
            else:
                errors |= outcome.result
                advance(len(outcome.items))
    return errors


def _outcomes(
    items: list[Item], extractor: Extractor, shelf: Store, workers: int | None, timeout_s: float
) -> Iterator[Done[Item, dict[str, SampleError]] | Dead[Item]]:
    function = partial(_compute_shard, extractor=extractor, shelf=shelf)
    count = workers or executors.worker_count()
    most = max(1, PART_BYTES // extractor.max_bytes)
    size = min(most, max(1, -(-len(items) // (4 * count))))
    shards = [items[start : start + size] for start in range(0, len(items), size)]
    if extractor.modality in _IN_PROCESS and not extractor.frozen:
        return (Done(shard, function(shard, _no_beat)) for shard in shards)
    preload = (__name__, extractor.module.__name__)
    return executors.run(function, shards, workers=count, timeout_s=timeout_s, preload=preload)


def _compute_shard(
    items: Sequence[Item], beat: Beat, *, extractor: Extractor, shelf: Store
) -> dict[str, SampleError]:
    """In a worker: compute, store, and return sha256 → error of those that failed."""
    found = list(zip(items, extractor.compute(items, beat), strict=True))
    beat(len(items))
    good = [(bytes.fromhex(item.sha256), value) for item, value in found if isinstance(value, bytes)]
    shelf.put([key for key, _ in good], [value for _, value in good])
    return {item.sha256: value for item, value in found if isinstance(value, SampleError)}


def _no_beat(index: int) -> None:
    """In this process nobody watches."""


def _write(rows: _Rows, schema: pa.Schema, shelf: Store, errors: dict[str, SampleError], out: Path) -> None:
    """Shards of bounded size into a folder beside `out`, then renamed to it. Raises PartLostError."""
    index = shelf.index()
    places = index.rows(rows.keys)
    lost = [
        i for i, row in zip(rows.items, places.tolist(), strict=True) if row < 0 and i.sha256 not in errors
    ]
    if lost:
        raise PartLostError(f"{len(lost)} features")
    words = pa.nulls(len(rows.items), pa.string())
    if errors:
        words = pa.array([str(e) if (e := errors.get(i.sha256)) else None for i in rows.items], pa.string())
    partial_out = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    for number, (start, end) in enumerate(_ranges(np.append(index.sizes, 0)[places])):
        columns: list[Any] = [rows.ids[start:end], index.values(places[start:end]), words[start:end]]
        table = pa.table(columns, schema=schema)
        tables.write(partial_out / f"part-{number:05}.parquet", table, compression="lz4")
    shutil.rmtree(out, ignore_errors=True)
    partial_out.replace(out)


def _ranges(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut rows into runs of at most `SHARD_BYTES` (or one row); one empty run if there is no row."""
    start = total = 0
    for row, size in enumerate(sizes.tolist()):
        if total + size > SHARD_BYTES and row > start:
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)
