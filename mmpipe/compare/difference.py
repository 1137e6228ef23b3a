"""All that differs between two sides, as one tree of JSON; what cannot be compared says why."""

from collections.abc import Callable
from typing import Any

from mmpipe import paths, schema
from mmpipe.compare import figures, flips, samples, versions
from mmpipe.compare.side import Side
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.trees import Change, changes, flat

Tree = dict[str, Any]
SECTIONS = ("params", "data", "splits", "metrics", "classes", "predictions", "environment", "code", "size")
"""Besides `old` and `new`: a list or an object, or {"missing": why}."""


def compare(old: Side, new: Side) -> Tree:
    """`old`, `new` (name, commit, bundle_sha256) and the sections."""
    plans: dict[str, Callable[[Side, Side], Any]] = {
        "params": _params,
        "data": _data,
        "splits": _splits,
        "metrics": _metrics,
        "classes": _classes,
        "predictions": _predictions,
        "environment": lambda a, b: versions.environment(a.config(), b.config()),
        "code": lambda a, b: versions.code(a.fingerprints(), b.fingerprints()),
        "size": _size,
    }
    assert tuple(plans) == SECTIONS
    sides = {key: _named(side) for key, side in (("old", old), ("new", new))}
    return {**sides, **{name: _section(plan, old, new) for name, plan in plans.items()}}


def _named(side: Side) -> Tree:
    return {"name": side.name, "commit": side.commit, "bundle_sha256": side.digest}


def _section(plan: Callable[[Side, Side], Any], old: Side, new: Side) -> Any:
    try:
        return plan(old, new)
    except (NotFoundError, InvalidError) as error:  # InvalidError: of another version of mmpipe
        return {"missing": f"{error.where} {error.what}"}


def _params(old: Side, new: Side) -> list[Change]:
    """From both params.yaml, else from both bundles, which know only what the training read."""
    try:
        return changes(old.params(), new.params())
    except NotFoundError:
        return changes(*(flat(side.config().get("params", {})) for side in (old, new)))


def _data(old: Side, new: Side) -> Tree:
    return samples.compare(*(side.table(paths.SAMPLES, schema.SAMPLES) for side in (old, new)))


def _splits(old: Side, new: Side) -> Tree:
    return samples.splits(*(side.table(paths.SPLITS, schema.SPLIT) for side in (old, new)))


def _test(side: Side) -> Tree:
    return side.json(paths.METRICS / "evaluate.json")


def _classes(old: Side, new: Side) -> list[Tree]:
    for side in (old, new):
        if "per_class" not in _test(side):
            raise NotFoundError("object-missing", "a model without classes", where=side.name)
    return figures.classes(_test(old), _test(new))


def _metrics(old: Side, new: Side) -> list[Tree]:
    """Of the test split under their own names; of training and validation under `train.`."""
    trees = [{**_test(side), "train": side.json(paths.METRICS / "train.json")} for side in (old, new)]
    return figures.metrics(*trees)


def _predictions(old: Side, new: Side) -> Tree:
    """Groups are the new side's; without its splits every sample stands alone."""
    tables = [side.table(paths.PREDICTIONS) for side in (old, new)]
    for side, table in zip((old, new), tables, strict=True):
        if "confidence" not in table.column_names:
            raise NotFoundError(
                "object-missing", "has no predictions that are right or wrong", where=side.name
            )
    try:
        split = new.table(paths.SPLITS, schema.SPLIT)
        groups = dict(zip(split["id"].to_pylist(), split["group"].to_pylist(), strict=True))
    except NotFoundError:
        groups = {}
    try:
        both = tuple(side.table(paths.SAMPLES, schema.SAMPLES) for side in (old, new))
    except NotFoundError:
        both = None
    return flips.compare(*tables, groups=groups, samples=both)


def _size(old: Side, new: Side) -> Tree:
    for side in (old, new):
        side.config()  # there is a bundle
    return versions.size(old.bundle, new.bundle)
