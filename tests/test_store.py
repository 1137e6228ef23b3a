"""The feature store: what is put comes back, damage is as if it never was, old things go."""

import hashlib
import os

import numpy as np
import pyarrow as pa
import pytest

from mmpipe.features import store
from mmpipe.features.store import PartLostError, Store

FIXED, VARYING = pa.binary(4), pa.large_binary()


def key(number):
    return hashlib.sha256(str(number).encode()).digest()


def value(number):
    return number.to_bytes(4, "little")


@pytest.fixture
def shelf(tmp_path):
    made = Store(tmp_path / "image" / "f", FIXED)
    for start in (0, 10, 20):
        numbers = range(start, start + 10)
        made.put([key(n) for n in numbers], [value(n) for n in numbers])
    return made


def got(shelf, numbers):
    index = shelf.index()
    return index.values(index.rows([key(n) for n in numbers])).to_pylist()


def test_what_is_put_comes_back_in_any_order(shelf):
    assert got(shelf, [25, 3, 14, 3, 0]) == [value(n) for n in (25, 3, 14, 3, 0)]
    assert got(shelf, [99, 1]) == [None, value(1)]
    assert got(shelf, []) == []


def test_an_empty_store_has_nothing(tmp_path):
    shelf = Store(tmp_path / "f", VARYING)
    assert got(shelf, [1, 2]) == [None, None]
    shelf.put([], [])
    assert not list(shelf.folder.iterdir())


def test_values_of_varying_length(tmp_path):
    shelf = Store(tmp_path / "f", VARYING)
    shelf.put([key(n) for n in range(5)], [b"x" * n for n in range(5)])
    assert got(shelf, [4, 0, 2]) == [b"xxxx", b"", b"xx"]
    index = shelf.index()
    assert index.sizes[index.rows([key(3), key(1)])].tolist() == [3, 1]


def test_putting_twice_is_putting_once(shelf):
    before = sorted(shelf.folder.iterdir())
    shelf.put([key(n) for n in range(10)], [value(n) for n in range(10)])
    assert sorted(shelf.folder.iterdir()) == before


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def part_of(shelf, number):
    index = shelf.index()
    row = int(index.rows([key(number)])[0])
    return index.parts[int(np.searchsorted(index.starts, row, side="right")) - 1]


def test_damaged_keys_are_found_at_once(shelf):
    path = part_of(shelf, 5)
    flip(path, 60)
    index = shelf.index()
    assert index.damaged == 1
    assert not path.exists()
    assert got(shelf, [5, 15]) == [None, value(15)]


def test_damaged_values_are_found_when_read(shelf):
    path = part_of(shelf, 5)
    flip(path, path.read_bytes().rindex(value(9)) + 1)
    index = shelf.index()
    assert index.damaged == 0
    assert index.values(index.rows([key(15)])).to_pylist() == [value(15)]
    with pytest.raises(PartLostError):
        index.values(index.rows([key(5)]))
    assert got(shelf, [5, 15]) == [None, value(15)]


def test_verify_removes_every_damaged_part(shelf):
    for number in (5, 15):
        path = part_of(shelf, number)
        flip(path, path.read_bytes().rindex(value(number)) + 1)
    assert shelf.verify() == 2
    assert got(shelf, [5, 15, 25]) == [None, None, value(25)]


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"junk" * 50])
def test_half_a_part_is_none(shelf, damage):
    path = part_of(shelf, 5)
    path.write_bytes(damage(path.read_bytes()))
    assert got(shelf, [5, 25]) == [None, value(25)]


def test_a_part_that_vanishes_is_lost(shelf):
    index = shelf.index()
    part_of(shelf, 5).unlink()
    with pytest.raises(PartLostError):
        index.values(index.rows([key(5)]))


def test_many_small_parts_become_few(tmp_path):
    shelf = Store(tmp_path / "image" / "f", FIXED)
    for number in range(store.MAX_SMALL_PARTS + 1):
        shelf.put([key(number)], [value(number)])
        shelf.compact()
    assert len(list(shelf.folder.iterdir())) == 1
    numbers = range(store.MAX_SMALL_PARTS, -1, -1)
    assert got(shelf, numbers) == [value(n) for n in numbers]


def test_only_the_newest_fingerprints_are_kept(tmp_path):
    for age, name in enumerate("abcde"):
        shelf = Store(tmp_path / name, FIXED)
        shelf.put([key(1)], [value(1)])
        os.utime(shelf.folder, (1_000 - age, 1_000 - age))
    Store(tmp_path / "d", FIXED).tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "d"]
