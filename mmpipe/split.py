"""Train, val or test for each sample: stratified, deterministic, and no group in two of them."""

import difflib
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpipe.errors import InvalidError
from mmpipe.schema import SPLITS
from mmpipe.targets import Stratum

_SHOWN = 5


@dataclass(frozen=True)
class _Group:
    """Its name, how many samples of each class it has, and which samples they are."""

    name: str
    counts: dict[int, int]
    members: list[int]


def assign(  # noqa: PLR0913 (the samples, and the keys of `split`)
    ids: Sequence[str],
    strata: Sequence[Stratum],
    groups: Sequence[str],
    *,
    test_fraction: float,
    val_fraction: float,
    fold: int,
    seed: int,
) -> list[str]:
    """A split for each sample, which does not depend on the order of the samples.

    `strata`: the class of each, or all of its labels, each of which is kept in balance: with groups, and
    largest ones first, what Sechidis et al. 2011 call iterative stratification.

    `test_fraction` is 1/n: the groups are dealt into n folds; fold number `fold` is the test split, so that
    over all folds every sample is tested once. Val is dealt out of the rest; `val_fraction` is of all
    samples.
    Raises InvalidError `split-too-few` (no samples, one class, a class or split left empty) or `params`.
    """
    _check_enough(ids, strata)
    folds = round(1 / test_fraction)
    if fold >= folds:
        allowed = f"split.test_fraction {test_fraction:g} makes folds 0 to {folds - 1}"
        what = f"split.fold is {fold}, {allowed}"
        raise InvalidError("params", what, where="params.yaml")
    whole = _grouped(ids, strata, groups)
    dealt = _deal(whole, [1 / folds] * folds, f"{seed}:test")
    test = {group.name for group, number in zip(whole, dealt, strict=True) if number == fold}
    rest = [group for group in whole if group.name not in test]
    val = _val_names(rest, val_fraction * len(ids), f"{seed}:val")
    splits = ["test" if name in test else "val" if name in val else "train" for name in groups]
    check_classes(strata, splits, groups, wanted=_wanted(val_fraction))
    return splits


def keep_declared(
    ids: Sequence[str],
    strata: Sequence[Stratum],
    groups: Sequence[str],
    declared: Sequence[str | None],
    *,
    val_fraction: float,
    seed: int,
) -> list[str]:
    """The splits that the data declare; where they declare no val, it is dealt out of train.

    Raises InvalidError `split-incomplete` (a row without one), `split-leak` (a group in two of them) or
    `split-too-few` (no train, no test, or no val although `val_fraction` is not 0).
    """
    _check_enough(ids, strata)
    without = [name for name, split in zip(ids, declared, strict=True) if split is None]
    if without:
        what = f"{len(without)} of {len(ids)} samples have none: {_listed(without)}"
        raise InvalidError("split-incomplete", what, where="the split column")
    splits = [str(split) for split in declared]
    if missing := [name for name in ("train", "test") if name not in splits]:
        fix = f"give some rows the split {missing[0]!r}, or set data.columns.split: null"
        what = f"none of {len(ids)} samples has the split {missing[0]!r}"
        raise InvalidError("split-too-few", what, where="the split column", fix=fix)
    check_leaks(ids, splits, groups, what="near-identical or grouped samples")
    if "val" not in splits and val_fraction:
        train = [index for index, split in enumerate(splits) if split == "train"]
        rest = _grouped(
            [ids[index] for index in train],
            [strata[index] for index in train],
            [groups[index] for index in train],
        )
        val = _val_names(rest, val_fraction * len(ids), f"{seed}:val")
        splits = [
            "val" if s == "train" and name in val else s for s, name in zip(splits, groups, strict=True)
        ]
    check_classes(strata, splits, groups, wanted=_wanted(val_fraction))
    return splits


def folds(
    ids: Sequence[str], strata: Sequence[Stratum], groups: Sequence[str], *, count: int, seed: int
) -> list[int]:
    """A fold 0 … `count` - 1 for each sample: stratified, no group in two folds, whatever the samples' order.

    Raises InvalidError `split-too-few` where a fold stays empty.
    """
    whole = _grouped(ids, strata, groups)
    dealt = _deal(whole, [1 / count] * count, f"{seed}:folds") if whole else []
    if len(set(dealt)) < count:
        what = f"{len(ids)} samples in {len(whole)} groups do not fill {count} folds"
        raise InvalidError("split-too-few", what, fix="lower train.stacking_folds, or add samples")
    number = {group.name: fold for group, fold in zip(whole, dealt, strict=True)}
    return [number[name] for name in groups]


def check_leaks(ids: Sequence[str], splits: Sequence[str], keys: Sequence[str | None], *, what: str) -> None:
    """Raise InvalidError `split-leak`, with counts and ids, where samples of one key lie in two splits."""
    first: dict[str, int] = {}
    leaks = []
    for index, key in enumerate(keys):
        if key is not None:
            known = first.setdefault(key, index)
            if splits[known] != splits[index]:
                leaks.append(f"{ids[known]} ({splits[known]}) and {ids[index]} ({splits[index]})")
    if leaks:
        raise InvalidError("split-leak", f"{len(leaks)} {what} lie in two splits: {_listed(leaks)}")


def check_classes(
    strata: Sequence[Stratum], splits: Sequence[str], groups: Sequence[str], *, wanted: set[str]
) -> None:
    """Raise InvalidError `split-too-few` where a wanted split is empty or train lacks a class.

    Of several labels a sample, one that train lacks is not learnt, and no error.
    """
    empty = [name for name in SPLITS if name in wanted and name not in splits]
    if empty:
        size = Counter(groups).most_common(1)[0][1]
        what = f"no sample is left for {empty[0]}: {len(strata)} samples in {len(set(groups))} groups"
        raise InvalidError("split-too-few", f"{what}, the largest of {size}")
    trained = {name for name, split in zip(strata, splits, strict=True) if split == "train"}
    for missing in sorted({name for name in strata if isinstance(name, str)} - trained):
        members = [name for name, stratum in zip(groups, strata, strict=True) if stratum == missing]
        where = f"{len(members)} samples in {len(set(members))} groups"
        what = f"train has no sample of class {missing!r} ({where})"
        near = difflib.get_close_matches(missing, sorted(map(str, trained)), n=1)
        raise InvalidError("split-too-few", what + (f", did you mean {near[0]!r}?" if near else ""))


def counts(strata: Sequence[Stratum], splits: list[str], groups: Sequence[str]) -> dict[str, Any]:
    """Samples of each split and class, and the sizes of groups, for the metrics.

    The classes are a list, which `dvc metrics show` leaves out: else it has a column a split and class.
    """
    table = Counter(
        (split, name) for split, stratum in zip(splits, strata, strict=True) for name in _names(stratum)
    )
    classes = sorted({name for stratum in strata for name in _names(stratum)})
    return {
        "samples": {split: splits.count(split) for split in SPLITS},
        "classes": [{"label": name} | {split: table[split, name] for split in SPLITS} for name in classes],
        "groups": len(set(groups)),
        "largest_group": max(Counter(groups).values()),
    }


def _check_enough(ids: Sequence[str], strata: Sequence[Stratum]) -> None:
    if not ids:
        raise InvalidError("split-too-few", "there are no samples")
    if len(set(strata)) == 1 and isinstance(strata[0], str):
        raise InvalidError("split-too-few", f"all {len(ids)} samples are of one class, {strata[0]!r}")


def _wanted(val_fraction: float) -> set[str]:
    return {"train", "val", "test"} if val_fraction else {"train", "test"}


def _grouped(ids: Sequence[str], strata: Sequence[Stratum], groups: Sequence[str]) -> list[_Group]:
    """The groups in the order of their names."""
    names = sorted({name for stratum in strata for name in _names(stratum)})
    number = {name: index for index, name in enumerate(names)}
    found: dict[str, _Group] = {}
    for index in sorted(range(len(ids)), key=lambda index: ids[index]):
        group = found.setdefault(groups[index], _Group(groups[index], {}, []))
        for label in (number[name] for name in _names(strata[index])):
            group.counts[label] = group.counts.get(label, 0) + 1
        group.members.append(index)
    return [found[name] for name in sorted(found)]


def _val_names(groups: Sequence[_Group], wanted: float, salt: str) -> set[str]:
    """Names of groups that together hold about `wanted` samples."""
    if not groups or not wanted:
        return set()
    share = min(1.0, wanted / sum(len(group.members) for group in groups))
    dealt = _deal(groups, [share, 1 - share], salt)
    return {group.name for group, number in zip(groups, dealt, strict=True) if number == 0}


def _deal(groups: Sequence[_Group], shares: Sequence[float], salt: str) -> list[int]:
    """The bin of each group. Largest first, equal ones in an order hashed from `salt`.

    Each goes where it brings the bin's size and its counts of the group's classes nearest to the bin's share
    (least sum of squared relative errors).
    """
    classes = 1 + max(max(group.counts, default=-1) for group in groups)
    totals = np.zeros(classes + 1)
    for group in groups:
        for label, size in group.counts.items():
            totals[label] += size
        totals[classes] += len(group.members)
    need = np.outer(shares, totals)  # still wanting, by bin and class; the last column is the size
    weight = 1 / np.maximum(totals, 1) ** 2
    order = sorted(range(len(groups)), key=lambda g: (-len(groups[g].members), _hash(salt, groups[g].name)))
    bins = [0] * len(groups)
    for index in order:
        labels = [*groups[index].counts, classes]
        numbers = np.array([*groups[index].counts.values(), len(groups[index].members)], np.float64)
        gap = need[:, labels]
        error = (((gap - numbers) ** 2 - gap**2) * weight[labels]).sum(axis=1)
        bins[index] = int(np.argmin(np.round(error, 12)))
        need[bins[index], labels] -= numbers
    return bins


def _names(stratum: Stratum) -> tuple[str, ...]:
    return (stratum,) if isinstance(stratum, str) else stratum


def _hash(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}:{name}".encode()).hexdigest()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
