"""What differs, in words: the numbers of the JSON, aligned and short."""

import re
import subprocess
import sys

import pytest
import tiny_versions
from tiny_versions import compare

from mmpipe.compare import text


@pytest.fixture
def old(tmp_path):
    return tiny_versions.write(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return tiny_versions.write_changed(tmp_path / "new")


def numbers(words):
    return re.findall(r"\d[\d,]*\.?\d*", words)


def test_text_tells_the_numbers_of_the_json(old, new):
    found = compare(old, new)
    lines = list(text.lines(found))
    told = "\n".join(lines)
    data, flips = found["data"], found["predictions"]["flips"]
    assert f"{data['old']} → {data['new']} samples: 2 added, 1 removed, 2 changed, 1 relabelled" in told
    assert "(1 of those added were there under another id)" in told
    [accuracy] = [line for line in lines if line.split()[:1] == ["accuracy"]]
    assert numbers(accuracy) == ["0.500", "0.400", "0.600", "0.750", "0.650", "0.850", "0.250"]
    [lr] = [line for line in lines if "train.lr" in line]
    assert lr.split() == ["train.lr", "0.001", "0.01"]
    for kind, one in flips.items():
        assert f"{one['count']} {kind}" in told
    assert f"{found['size']['old']:,} → {found['size']['new']:,} bytes" in told
    assert max(map(len, lines)) < 250


def test_text_is_aligned_and_short(tmp_path, old):
    rows = {f"{n:03}": ("bass", "test", "bass", f"i{n}", "x" * 500, None) for n in range(40)}
    many = dict.fromkeys((f"label {n}" for n in range(30)), 0.5)
    new = tiny_versions.write(tmp_path / "new", rows, recalls=many)
    lines = list(text.lines(compare(old, new)))
    start = next(n for n, line in enumerate(lines) if line.startswith("    class "))
    table = lines[start : start + text.MOST_ROWS + 1]
    assert len({len(line) for line in table}) == 1
    assert lines[start + text.MOST_ROWS + 1] == f"    … and {32 - text.MOST_ROWS} more"
    assert len(lines) < 80


def test_text_needs_no_torch_and_no_matplotlib(old, new):
    source = f"""
import sys
from typer.testing import CliRunner
from mmpipe.cli import app
assert CliRunner().invoke(app, ["diff", {str(old)!r}, {str(new)!r}]).exit_code == 0
print([name for name in ("torch", "matplotlib", "cv2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
