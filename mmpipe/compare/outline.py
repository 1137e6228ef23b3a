"""What differs, in words for people: sections of a sentence and tables, for a terminal and a page alike."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]
ABSENT = "–"
HEADLINES = ("accuracy", "macro_f1", "micro_f1", "ece", "nll", "mae", "rmse", "r2", "mean_recall")
"""Metrics that are shown even where they do not differ."""


@dataclass(frozen=True)
class Grid:
    """A table of words; columns from the number `right` on are numbers, flush right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: int = 1


@dataclass(frozen=True)
class Section:
    """`key`: of the JSON that it tells. `lead`: its sum in a sentence."""

    key: str
    title: str
    lead: str
    grids: Sequence[Grid] = ()


def sections(found: Tree) -> list[Section]:
    """Of what `difference.compare` found."""
    tellers: dict[str, tuple[str, Callable[[Any], tuple[str, list[Grid]]]]] = {
        "params": ("Parameters", _params),
        "data": ("Data", _data),
        "splits": ("Splits", _splits),
        "metrics": ("Metrics", _metrics),
        "classes": ("Classes", _classes),
        "predictions": ("Predictions", _predictions),
        "environment": ("Environment", _environment),
        "code": ("Code", _code),
        "size": ("Size", _size),
    }
    told = []
    for key, (title, teller) in tellers.items():
        content = found[key]
        if isinstance(content, Mapping) and "missing" in content:
            told.append(Section(key, title, f"not compared: {content['missing']}"))
            continue
        lead, grids = teller(content)
        told.append(Section(key, title, lead, [grid for grid in grids if grid.rows]))
    return told


def side(one: Tree) -> str:
    """A side's name with its commit and bundle, as far as it has them."""
    marks = [f"commit {one['commit'][:12]}"] if one["commit"] else []
    marks += [f"bundle {one['bundle_sha256'][:12]}"] if one["bundle_sha256"] else []
    return f"{one['name']} ({', '.join(marks)})" if marks else str(one["name"])


def _params(changes: Sequence[Tree]) -> tuple[str, list[Grid]]:
    return _count(len(changes), "parameter differs", "parameters differ"), [_changed("parameter", changes)]


def _environment(changes: Sequence[Tree]) -> tuple[str, list[Grid]]:
    lead = _count(
        len(changes), "library or property of the machine differs", "libraries and properties differ"
    )
    return lead, [_changed("name", changes)]


def _data(data: Tree) -> tuple[str, list[Grid]]:
    counts = ", ".join(
        f"{data[key]['count']:,} {key}" for key in ("added", "removed", "changed", "relabelled")
    )
    again = f" ({data['renamed']:,} of those added were there under another id)" if data["renamed"] else ""
    labels = [row for row in data["labels"]["counts"] if row["old"] != row["new"]]
    shift = f"Labels whose count differs; {data['labels']['shift']:.3f} of all labels shifted"
    modalities = [
        [name, *(f"{one[key]:,}" for key in ("old", "new", "added", "removed", "changed"))]
        for name, one in data["modalities"].items()
        if one["old"] != one["new"] or one["added"] or one["removed"] or one["changed"]
    ]
    ids = [[key, name] for key in ("added", "removed", "changed", "relabelled") for name in data[key]["ids"]]
    return f"{data['old']:,} → {data['new']:,} samples: {counts}{again}", [
        Grid("Modalities", ("modality", "old", "new", "added", "removed", "changed"), modalities),
        Grid(
            shift, ("label", "old", "new"), [[r["label"], f"{r['old']:,}", f"{r['new']:,}"] for r in labels]
        ),
        _sizes([one for one in data["sizes"] if one["old"] != one["new"]]),
        Grid("For example", ("change", "sample"), ids, right=2),
    ]


def _sizes(sizes: Sequence[Tree]) -> Grid:
    rows = []
    for one in sizes:
        for key in ("mean", "median", "total"):
            if key in one["old"] or key in one["new"]:
                rows.append([one["name"], key, *(_number(one[side].get(key)) for side in ("old", "new"))])
    return Grid("Sizes", ("of", "", "old", "new"), rows, right=2)


def _splits(splits: Tree) -> tuple[str, list[Grid]]:
    sizes = ", ".join(f"{name} {splits['old'][name]:,} → {splits['new'][name]:,}" for name in splits["old"])
    moved = sum(move["count"] for move in splits["moved"])
    rows = [[m["from"], m["to"], f"{m['count']:,}", ", ".join(m["ids"])] for m in splits["moved"]]
    lead = f"{sizes}; {_count(moved, 'shared sample moved', 'shared samples moved')}"
    return lead, [Grid("Moves", ("from", "to", "samples", "for example"), rows, right=4)]


def _metrics(rows: Sequence[Tree]) -> tuple[str, list[Grid]]:
    differing = [row for row in rows if row.get("delta") != 0]
    shown = [row for row in rows if row.get("delta") != 0 or row["name"] in HEADLINES]
    cells = [
        [row["name"], *(_estimate(row, side) for side in ("old", "new")), _signed(row.get("delta"))]
        for row in shown
    ]
    lead = f"{len(differing)} of {_count(len(rows), 'figure differs', 'figures differ')}"
    return lead, [Grid("With their 95 % intervals", ("metric", "old", "new", "change"), cells)]


def _classes(rows: Sequence[Tree]) -> tuple[str, list[Grid]]:
    changed = [row for row in rows if any(row[key].get("delta") != 0 for key in ("recall", "f1", "samples"))]
    cells = []
    for row in changed:
        figures = [_number(row[key].get(side)) for key in ("recall", "f1") for side in ("old", "new")]
        counts = [_number(row["samples"].get(side)) for side in ("old", "new")]
        cells.append([row["label"], *figures[:2], _signed(row["recall"].get("delta")), *figures[2:], *counts])
    columns = ("class", "recall, old", "new", "change", "F1, old", "new", "samples, old", "new")
    lead = f"{len(changed)} of {_count(len(rows), 'class differs', 'classes differ')} on the test split"
    return lead, [Grid("Each version on its own test split", columns, cells)]


def _predictions(found: Tree) -> tuple[str, list[Grid]]:
    left = found["left_out"]
    apart = f"only old {left['only_old']:,}, only new {left['only_new']:,}, changed {left['changed']:,}"
    flips = ", ".join(f"{one['count']:,} {kind}" for kind, one in found["flips"].items())
    examples = [
        [kind, one["id"], one["target"], one["old"], one["new"]]
        for kind, some in found["flips"].items()
        for one in some["examples"]
    ]
    lead = f"{found['samples']:,} test samples in both, the others left out ({apart}): {flips}"
    if accuracy := found["accuracy"]:
        interval = f"[{accuracy['low']:+.3f}, {accuracy['high']:+.3f}]"
        lead += f"; accuracy {accuracy['old']:.3f} → {accuracy['new']:.3f}, "
        lead += f"{accuracy['delta']:+.3f} {interval} paired, p = {accuracy['p']:.3g}"
    return lead, [Grid("For example", ("flip", "sample", "label", "old", "new"), examples, right=5)]


def _code(rows: Sequence[Tree]) -> tuple[str, list[Grid]]:
    cells = [
        [row["stage"], key, ", ".join(row[key])]
        for row in rows
        for key in ("changed", "added", "removed")
        if row[key]
    ]
    lead = _count(len(rows), "stage has other code", "stages have other code")
    return lead, [Grid("Modules and data files", ("stage", "", "parts"), cells, right=3)]


def _size(size: Tree) -> tuple[str, list[Grid]]:
    rows = [[one["name"], *(_number(one.get(side)) for side in ("old", "new"))] for one in size["files"]]
    lead = f"{size['old']:,} → {size['new']:,} bytes, {size['new'] / size['old'] - 1:+.1%}"
    return lead, [Grid("Files with other bytes", ("file", "old", "new"), rows)]


def _changed(name: str, changes: Sequence[Tree]) -> Grid:
    rows = [[one["name"], *(_value(one, side) for side in ("old", "new"))] for one in changes]
    return Grid("", (name, "old", "new"), rows, right=3)


def _value(change: Tree, side: str) -> str:
    if side not in change:
        return ABSENT
    value = change[side]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _estimate(row: Tree, side: str) -> str:
    words = _number(row.get(side))
    interval = row.get(f"{side}_95")
    return f"{words} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else words


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _signed(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:+,}" if isinstance(value, int) else f"{value:+,.3f}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
