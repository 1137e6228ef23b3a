"""The feature store: what is put comes back, damage is as if it never was, old things go, code counts."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from workspace import copy_package

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


EXTRACT = """
from pathlib import Path
import pyarrow as pa
from mmpipe import schema
from mmpipe.features import text
from mmpipe.features.extract import extract
from mmpipe.features.extractor import Extractor

rows = [
    {"id": word, "source": "x", "target": "t", "text": word, "text_sha256": 32 * code, "warnings": []}
    for word, code in (("one", "01"), ("two", "02"))
]
settings = {"tokenizer_json": text.fit(["one two"], vocab_size=300, lowercase=True), "max_tokens": 8}
samples = pa.Table.from_pylist(rows, schema=schema.SAMPLES)
print(extract(samples, Extractor("text", settings), out=Path("out"), store=Path("store")).computed)
"""


@pytest.fixture
def computed(tmp_path):
    """Extracts two texts with a package that may be edited: → how many the store did not have."""
    copy_package(tmp_path / "site")

    def run():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        done = subprocess.run(
            [sys.executable, "-c", EXTRACT], cwd=tmp_path, env=environment, stdout=-1, text=True, check=True
        )
        return int(done.stdout)

    assert run() == 2
    return run


def edit(folder, name, old, new):
    path = folder / "site/mmpipe" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def new_version(folder, library):
    """What a package manager would leave; the library itself stays as it is."""
    written = folder / f"site/{library}-99.0.dist-info/METADATA"
    written.parent.mkdir()
    written.write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 99.0\n")


def test_what_cannot_change_a_feature_recomputes_none(computed, tmp_path):
    edit(tmp_path, "errors.py", '"restore the file from its source"', '"bring the file back"')
    edit(
        tmp_path,
        "errors.py",
        "class UsageError",
        "class OtherError(MmpipeError):\n    pass\n\n\nclass UsageError",
    )
    edit(tmp_path, "files.py", "def safe_join", "_UNUSED = 1\n\n\ndef safe_join")
    edit(tmp_path, "schema.py", "FEATURE_KEYS =", "_UNUSED = 1\nFEATURE_KEYS =")
    new_version(tmp_path, "pyarrow")  # tables are written anew, from the store
    assert computed() == 0


def test_code_and_libraries_that_make_features_recompute_all(computed, tmp_path):
    edit(tmp_path, "features/text.py", "MASK = 1", "MASK = 0 + 1")
    assert computed() == 2
    assert computed() == 0
    new_version(tmp_path, "tokenizers")
    assert computed() == 2
