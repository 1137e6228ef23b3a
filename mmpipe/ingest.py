"""Rows of manifests → good samples and rows put aside: rows in = ok + quarantined + duplicates, always."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmpipe import executors, progress, schema, targets
from mmpipe.errors import InvalidError, TooManyBadRowsError
from mmpipe.inspection import Facts, Fault, Limits, inspect_rows
from mmpipe.row import BadRow, Row

SHARD_ROWS = 64
DUPLICATE = "row-duplicate"
"""The one code that marks a harmless row."""


@dataclass(frozen=True)
class Target:
    """What the target column holds: one of `targets.KINDS`, and what stands between several labels."""

    kind: str = "label"
    separator: str = ";"

    def read(self, row: Row) -> Row | BadRow:
        """The row with its target as it is stored; a BadRow where the cell is of another kind."""
        try:
            return replace(row, target=targets.canonical(row.target, self.kind, separator=self.separator))
        except ValueError as error:
            return BadRow(row.source, row.row, row.id, "row-bad-target", str(error))


@dataclass(frozen=True)
class Outcome:
    """Rows of `schema.SAMPLES` and `schema.QUARANTINE`, sorted; `counts` can be written as JSON."""

    samples: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    counts: dict[str, Any]


def ingest(
    rows: Sequence[Row | BadRow],
    *,
    limits: Limits,
    timeout_s: float,
    workers: int | None = None,
    target: Target = Target(),
) -> Outcome:
    """Judge every row: its cells, its files (in worker processes), and the rows against one another.

    Raises InvalidError: `manifest-empty` where there is no row at all, `split-leak` where rows of the same
    content and label declare different splits.
    """
    if not rows:
        raise InvalidError("manifest-empty", "no manifest has a row")
    read = [target.read(row) if isinstance(row, Row) else row for row in rows]
    bad = {(row.source, row.row): _bad(row, row.code, row.what) for row in read if isinstance(row, BadRow)}
    whole = [row for row in read if isinstance(row, Row)]
    _put_aside_cells(whole, bad, target)
    facts = _inspected([row for row in whole if _key(row) not in bad], limits, timeout_s, workers)
    for row in whole:
        found = facts.get(_key(row))
        if isinstance(found, Fault):
            bad[_key(row)] = _bad(row, found.code, found.what, found.modality, found.sha256)
        elif found is not None and len(found) == 1:
            bad[_key(row)] = _bad(row, "row-empty", "has neither image, text nor audio")
    good = [
        (row, found) for row in whole if _key(row) not in bad and isinstance(found := facts[_key(row)], dict)
    ]
    _put_aside_copies(good, bad)
    samples = [_sample(row, found) for row, found in good if _key(row) not in bad]
    samples.sort(key=lambda sample: str(sample["id"]))
    quarantine = sorted(bad.values(), key=lambda row: (row["source"], row["row"]))
    return Outcome(samples, quarantine, _counts(len(rows), samples, quarantine))


def summary(counts: dict[str, Any]) -> str:
    """The row accounting in one line."""
    codes = ", ".join(f"{number} {code}" for code, number in counts["codes"].items())
    return (
        f"{counts['rows_in']} rows in = {counts['rows_ok']} ok + {counts['rows_quarantined']} quarantined"
        f" + {counts['rows_duplicates']} duplicates" + (f" ({codes})" if codes else "")
    )


def check(counts: dict[str, Any], *, max_bad_fraction: float) -> None:
    """Raise TooManyBadRowsError past the limit, InvalidError `manifest-empty` where no row is left."""
    bad, total = counts["rows_quarantined"], counts["rows_in"]
    if bad > max_bad_fraction * total:
        what = f"{bad} of {total} rows are bad ({bad / total:.1%}), {max_bad_fraction:.1%} are allowed"
        worst = ", ".join(f"{number} {code}" for code, number in counts["codes"].items() if code != DUPLICATE)
        raise TooManyBadRowsError("too-many-bad-rows", f"{what}: {worst}", done="tables written, stopped")
    if not counts["rows_ok"]:
        raise InvalidError("manifest-empty", "no good row is left", done="tables written, stopped")


Key = tuple[str, int]
Bad = dict[Key, dict[str, Any]]


def _key(row: Row) -> Key:
    return row.source, row.row


def _bad(
    row: Row | BadRow, code: str, what: str, modality: str | None = None, digest: str | None = None
) -> dict[str, Any]:
    values = (row.id, row.source, row.row, modality, code, what, digest)
    return dict(zip(schema.QUARANTINE.names, values, strict=True))


def _put_aside_cells(rows: Sequence[Row], bad: Bad, target: Target) -> None:
    """Rows that are bad by their cells alone: no modality, no target, an id that was there before."""
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row.id, row)
        if known is not row:
            what = f"the id {row.id!r} is that of {known.source}:{known.row}"
            bad[_key(row)] = _bad(row, "row-duplicate-id", what)
        elif row.image is None and row.text is None and row.text_path is None and row.audio is None:
            bad[_key(row)] = _bad(row, "row-empty", "has neither image, text nor audio")
        elif row.target is None and target.kind != "none":
            bad[_key(row)] = _bad(row, "row-no-target", "has no label")


def _inspected(
    rows: Sequence[Row], limits: Limits, timeout_s: float, workers: int | None
) -> dict[Key, Facts | Fault]:
    shards = [rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS)]
    function = functools.partial(inspect_rows, limits=limits)
    found: dict[Key, Facts | Fault] = {}
    with progress.bar("ingest", len(rows)) as advance:
        preload = ("mmpipe.inspection",)
        for outcome in executors.run(function, shards, workers=workers, timeout_s=timeout_s, preload=preload):
            if isinstance(outcome, executors.Dead):
                found[_key(outcome.item)] = Fault(None, outcome.code, outcome.what)
                advance(1)
            else:
                found.update(zip(map(_key, outcome.items), outcome.result, strict=True))
                advance(len(outcome.items))
    assert len(found) == len(rows)
    return found


def _put_aside_copies(good: Sequence[tuple[Row, Facts]], bad: Bad) -> None:
    """The same content again: a duplicate with the same target, a conflict with another one."""
    copies: dict[tuple[str | None, ...], list[Row]] = {}
    for row, facts in good:
        content = tuple(facts.get(f"{modality}_sha256") for modality in schema.MODALITIES)
        copies.setdefault(content, []).append(row)
    _check_declared([rows for rows in copies.values() if len({row.target for row in rows}) == 1])
    for rows in copies.values():
        agree = len({row.target for row in rows}) == 1
        for row in rows[1:] if agree else rows:
            if agree:
                what = f"the same content as {_named(rows[:1])}"
                bad[_key(row)] = _bad(row, DUPLICATE, what)
            else:
                others = _named([other for other in rows if other.target != row.target])
                what = f"labelled {row.target!r}, the same content as {others}"
                bad[_key(row)] = _bad(row, "row-conflict", what)


def _check_declared(copies: Sequence[Sequence[Row]]) -> None:
    """To drop one of two copies would hide that the data's own split has them on both sides."""
    leaks = []
    for rows in copies:
        first = {row.split: row for row in reversed(rows) if row.split is not None}
        if len(first) > 1:
            leaks.append(" and ".join(f"{first[name].id} ({name})" for name in sorted(first)))
    if leaks:
        shown = ", ".join(leaks[:5]) + (f" and {len(leaks) - 5} more" if len(leaks) > 5 else "")
        what = f"{len(leaks)} contents lie in two of the declared splits: {shown}"
        raise InvalidError("split-leak", what, where="the split column", done="nothing was written")


def _named(rows: Sequence[Row]) -> str:
    names = [f"{row.source}:{row.row} ({row.id}, {row.target!r})" for row in rows[:3]]
    return ", ".join(names) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _sample(row: Row, facts: Facts) -> dict[str, Any]:
    told = {"id": row.id, "source": f"{row.source}:{row.row}", "target": row.target}
    return told | {"group": row.group, "split": row.split} | facts


def _counts(
    rows_in: int, samples: Sequence[dict[str, Any]], quarantine: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    codes = Counter(row["code"] for row in quarantine)
    duplicates = codes[DUPLICATE]
    assert rows_in == len(samples) + len(quarantine), "rows are conserved"
    return {
        "rows_in": rows_in,
        "rows_ok": len(samples),
        "rows_quarantined": len(quarantine) - duplicates,
        "rows_duplicates": duplicates,
        "codes": dict(sorted(codes.items())),
        "modalities": {name: sum(f"{name}_sha256" in row for row in samples) for name in schema.MODALITIES},
        "warnings": sum(len(row["warnings"]) for row in samples),
    }
