"""Which samples belong together: the connected components over shared content and near-identical pictures."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK_PAIRS = 1 << 17
"""Hashes are compared in blocks of so many pairs, which fit in the cache, for any number of samples."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Groups:
    """`names[i]` is the smallest id of sample i's component; pairs are of near-identical pictures."""

    names: list[str]
    near_duplicate_pairs: int


def find(
    ids: Sequence[str],
    *,
    shared: Sequence[Sequence[str | None]],
    hashes: Sequence[int | None],
    near_duplicate_bits: int,
) -> Groups:
    """Connect samples that share a value in a column of `shared`, or whose picture hashes differ in few bits.

    Each column of `shared` has a value a sample (None connects nothing): a declared group, the sha256 of a
    file, a normalised text. `hashes` are `media.phash` (0 and None connect nothing); -1 bits = do not look.
    """
    roots = list(range(len(ids)))
    for column in shared:
        for pair in _equal_pairs(column):
            _connect(roots, pair)
    known = [index for index, value in enumerate(hashes) if value]
    pairs = 0
    if near_duplicate_bits >= 0:
        values = np.array([hashes[index] for index in known], np.uint64)
        unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        first = [known[int(position)] for position in np.unique(values, return_index=True)[1]]
        for position, index in enumerate(known):
            _connect(roots, (first[int(inverse[position])], index))
        pairs = int((counts * (counts - 1) // 2).sum())
        for a, b in near_pairs(unique, near_duplicate_bits):
            _connect(roots, (first[a], first[b]))
            pairs += int(counts[a] * counts[b])
    return Groups(_smallest_names(ids, roots), pairs)


def near_pairs(hashes: NDArray[np.uint64], bits: int) -> Iterator[Pair]:
    """Pairs a < b whose hashes differ in at most `bits` bits, by comparing all (1e5 hashes: some 20 s)."""
    total = len(hashes)
    start = 0
    while start < total:
        stop = min(total, start + max(1, _BLOCK_PAIRS // (total - start)))
        distance = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, start:])
        for row, column in np.argwhere(distance <= bits):
            if column > row:
                yield start + int(row), start + int(column)
        start = stop


def normalise_text(text: str) -> str:
    """Letters and digits in lower case with single spaces between words, compatibility forms made equal."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text.strip()


def _equal_pairs(values: Sequence[str | None]) -> Iterator[Pair]:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is not None:
            yield first.setdefault(value, index), index


def _root(roots: list[int], index: int) -> int:
    while roots[index] != index:
        roots[index] = roots[roots[index]]
        index = roots[index]
    return index


def _connect(roots: list[int], pair: Pair) -> None:
    a, b = _root(roots, pair[0]), _root(roots, pair[1])
    if a != b:
        roots[max(a, b)] = min(a, b)


def _smallest_names(ids: Sequence[str], roots: list[int]) -> list[str]:
    smallest: dict[int, str] = {}
    for index, name in enumerate(ids):
        root = _root(roots, index)
        smallest[root] = min(smallest.get(root, name), name)
    return [smallest[_root(roots, index)] for index in range(len(ids))]
