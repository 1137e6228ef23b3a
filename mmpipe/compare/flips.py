"""Predictions that flipped between two versions, on the test samples that both scored, and how surely."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mmpipe import metrics, paired
from mmpipe.compare.samples import by_id, content

SHOWN = 5
"""Samples named of each kind of flip."""
RESAMPLES = 10_000
KINDS = {
    (False, True): "wrong to right",
    (True, False): "right to wrong",
    (False, False): "wrong to other wrong",
}
Row = dict[str, Any]
Rows = dict[str, Row]


def compare(
    old: pa.Table, new: pa.Table, *, groups: Mapping[str, str], samples: tuple[pa.Table, pa.Table] | None
) -> dict[str, Any]:
    """Two of `schema.predictions`, on samples that are in the test split of both and the same in both.

    `groups`: {id: what near-duplicates share}. `samples`: both of `schema.SAMPLES`, to tell whose content
    changed; without them, a sample is the same where its label is. The interval is a paired bootstrap over
    groups; `p` is of no difference, two-sided and exact.
    """
    before, after = _test(old), _test(new)
    both = sorted(before.keys() & after.keys())
    contents = [{name: content(row) for name, row in by_id(of).items()} for of in samples or ()]
    same = [
        name
        for name in both
        if before[name]["target"] == after[name]["target"]
        and (not contents or contents[0].get(name) == contents[1].get(name))
    ]
    return {
        "samples": len(same),
        "left_out": {
            "only_old": len(before) - len(both),
            "only_new": len(after) - len(both),
            "changed": len(both) - len(same),
        },
        "accuracy": _accuracy([before[name] for name in same], [after[name] for name in same], groups),
        "flips": _flips([(before[name], after[name]) for name in same]),
    }


def _test(table: pa.Table) -> Rows:
    return {
        name: row
        for name, row in by_id(table).items()
        if row["split"] == "test" and row["target"] is not None
    }


def _right(row: Row) -> bool:
    return bool(row["prediction"] == row["target"])


def _accuracy(before: list[Row], after: list[Row], groups: Mapping[str, str]) -> dict[str, float] | None:
    """`old`, `new`, `delta` with `low` and `high`, `p`; None without samples."""
    if not before:
        return None
    was, now = [_right(row) for row in before], [_right(row) for row in after]
    names = [groups.get(row["id"], row["id"]) for row in before]
    gain, _ = metrics.accuracy_gain(now, was, names, resamples=RESAMPLES)
    told = {"old": sum(was) / len(was), "new": sum(now) / len(now), **gain.flat("delta")}
    told["p"] = _p([int(a) - int(b) for a, b in zip(now, was, strict=True)], names)
    return {name.replace("delta_", ""): round(number, 6) for name, number in told.items()}


def _p(gains: list[int], groups: list[str]) -> float:
    """Of no difference, two-sided: the sign test over groups, McNemar's where each is one sample."""
    sums = metrics.group_sums([[gain] for gain in gains], groups)[:, 0]
    return min(1.0, 2 * min(paired.sign_test(sums), paired.sign_test(-sums)))


def _flips(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    """{kind: {count, a few of them: id, target, old and new prediction}}."""
    found: dict[str, list[Row]] = {kind: [] for kind in KINDS.values()}
    for was, now in pairs:
        if was["prediction"] != now["prediction"]:
            told = {"target": was["target"], "old": was["prediction"], "new": now["prediction"]}
            found[KINDS[_right(was), _right(now)]].append({"id": was["id"], **told})
    return {kind: {"count": len(rows), "examples": rows[:SHOWN]} for kind, rows in found.items()}
