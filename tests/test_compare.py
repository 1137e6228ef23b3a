"""What differs between two versions, counted by hand on tiny workspaces."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import tiny_versions
from typer.testing import CliRunner

from mmpipe import bundle, paths
from mmpipe.cli import app
from mmpipe.compare import difference, page, side, text
from mmpipe.errors import NotFoundError, VerificationError

EVIL = '<script>alert("x")</script>\u202e\x1b[31m'


def compare(old, new):
    return difference.compare(side.read(str(old)), side.read(str(new)))


@pytest.fixture
def old(tmp_path):
    return tiny_versions.write(tmp_path / "old")


def changed_rows():
    """b and d flip; a's picture, c's label and e's split change; f goes, g comes, h is f under another id."""
    rows = dict(tiny_versions.ROWS)
    f = rows.pop("f")
    return rows | {
        "a": ("bass", "test", "bass", "other", "low", ("s1", 1.0)),
        "b": ("bass", "test", "bass", "i2", "lower", ("s2", 2.0)),
        "c": ("bass", "test", "bass", None, "high", None),
        "d": ("tenor", "test", "bass", "i4", "now with text", ("s4b", 6.0)),
        "e": ("tenor", "test", "tenor", "i5", "higher", None),
        "g": ("alto", "train", None, None, "between", ("s7", 5.0)),
        "h": f,
    }


@pytest.fixture
def new(tmp_path):
    return tiny_versions.write(
        tmp_path / "new",
        changed_rows(),
        params="train:\n  lr: 0.01\n  patience: 5\nimage: {size: 32}\n",
        accuracy=0.75,
        recalls={"alto": 1.0, "bass": 1.0, "tenor": 0.5},
        libraries={"mmpipe": "0.2.0", "numpy": "2.4.6", "torch": "2.11.0"},
        weights=b"other weights",
    )


def test_a_workspace_does_not_differ_from_itself(old):
    found = compare(old, old)
    assert found["old"] == found["new"]
    assert found["params"] == found["environment"] == found["code"] == []
    assert {row["delta"] for row in found["metrics"]} == {0}
    data = found["data"]
    assert [data[key]["count"] for key in ("added", "removed", "changed", "relabelled")] == [0, 0, 0, 0]
    assert data["labels"]["shift"] == 0 and found["size"]["files"] == []
    assert found["predictions"]["samples"] == 4
    assert sum(one["count"] for one in found["predictions"]["flips"].values()) == 0


def test_params_by_dotted_key(old, new):
    assert compare(old, new)["params"] == [
        {"name": "train.epochs", "old": 3},
        {"name": "train.lr", "old": 0.001, "new": 0.01},
        {"name": "train.patience", "new": 5},
    ]


def test_samples_are_counted_by_content(old, new):
    data = compare(old, new)["data"]
    assert (data["old"], data["new"], data["renamed"]) == (6, 7, 1)
    assert data["added"] == {"count": 2, "ids": ["g", "h"]}
    assert data["removed"] == {"count": 1, "ids": ["f"]}
    assert data["changed"] == {"count": 2, "ids": ["a", "d"]}
    assert data["relabelled"] == {"count": 1, "ids": ["c"]}
    assert data["modalities"] == {
        "audio": {"old": 3, "new": 4, "added": 1, "removed": 0, "changed": 1},
        "image": {"old": 5, "new": 5, "added": 1, "removed": 1, "changed": 1},
        "text": {"old": 5, "new": 7, "added": 3, "removed": 1, "changed": 0},
    }


def test_labels_and_sizes_shift(old, new):
    data = compare(old, new)["data"]
    assert data["labels"]["counts"] == [
        {"label": "alto", "old": 0, "new": 1},
        {"label": "bass", "old": 3, "new": 4},
        {"label": "tenor", "old": 3, "new": 2},
    ]
    assert data["labels"]["shift"] == pytest.approx(3 / 6 - 2 / 7, abs=1e-6)  # what tenor lost
    sizes = {one["name"]: (one["old"], one["new"]) for one in data["sizes"]}
    assert sizes["audio, s"] == (
        {"samples": 3, "mean": pytest.approx(7 / 3, abs=1e-6), "median": 2.0, "total": 7.0},
        {"samples": 4, "mean": 3.5, "median": 3.5, "total": 14.0},
    )
    assert sizes["image width, px"][0] == {"samples": 5, "mean": 40.0, "median": 40.0}
    assert sizes["text, characters"][0]["total"] == len("low" + "lower" + "high" + "higher" + "very low")


def test_moves_between_splits(old, new):
    found = compare(old, new)["splits"]
    assert found["old"] == {"train": 1, "val": 1, "test": 4}
    assert found["new"] == {"train": 1, "val": 1, "test": 5}
    assert found["moved"] == [{"from": "train", "to": "test", "count": 1, "ids": ["e"]}]


def test_metrics_with_intervals(old, new):
    rows = {row["name"]: row for row in compare(old, new)["metrics"]}
    accuracy = {"name": "accuracy", "old": 0.5, "new": 0.75, "delta": 0.25}
    assert rows["accuracy"] == accuracy | {"old_95": [0.4, 0.6], "new_95": [0.65, 0.85]}
    assert rows["subsets.text.accuracy"]["new_95"] == [pytest.approx(0.55), pytest.approx(0.95)]
    assert rows["train.val_loss"]["delta"] == 0
    assert not {"accuracy_low", "fusion_gain.accuracy", "subsets.text.accuracy_95"} & set(rows)


def test_classes_of_either(old, new):
    alto, bass, tenor = compare(old, new)["classes"]
    assert alto == {"label": "alto", "recall": {"new": 1.0}, "f1": {"new": 0.5}, "samples": {"new": 2}}
    assert bass["recall"] == {"old": 0.5, "new": 1.0, "delta": 0.5}
    assert tenor["f1"]["delta"] == 0


def test_flips_only_of_the_same_samples(old, new):
    """a and d have other contents, c another label, e was in train: only b is left."""
    found = compare(old, new)["predictions"]
    assert found["samples"] == 1
    assert found["left_out"] == {"only_old": 0, "only_new": 1, "changed": 3}
    b = {"id": "b", "target": "bass", "old": "tenor", "new": "bass"}
    assert found["flips"]["wrong to right"] == {"count": 1, "examples": [b]}
    assert found["accuracy"] == {"old": 0, "new": 1, "delta": 1, "low": 1, "high": 1, "p": 1}


def test_every_kind_of_flip(tmp_path):
    labels = ["alto", "bass", "tenor"]

    def workspace(name, given):
        rows = {
            f"{n:02}": (labels[n % 3], "test", guess, f"i{n}", None, None) for n, guess in enumerate(given)
        }
        return tiny_versions.write(tmp_path / name, rows)

    right = [labels[n % 3] for n in range(12)]
    was = [*right[:8], "tenor", "alto", "bass", "alto"]  # wrong: 11 alone
    now = ["bass", "alto", *right[2:8], "tenor", "alto", "tenor", "tenor"]
    found = compare(workspace("one", was), workspace("two", now))["predictions"]
    counts = {kind: one["count"] for kind, one in found["flips"].items()}
    assert counts == {"wrong to right": 1, "right to wrong": 3, "wrong to other wrong": 0}
    assert [one["id"] for one in found["flips"]["right to wrong"]["examples"]] == ["00", "01", "10"]
    accuracy = found["accuracy"]
    assert (accuracy["old"], accuracy["new"]) == (pytest.approx(11 / 12, abs=1e-6), pytest.approx(9 / 12))
    assert accuracy["delta"] == pytest.approx(-2 / 12, abs=1e-6)
    assert accuracy["low"] < accuracy["delta"] < accuracy["high"]
    assert accuracy["p"] == 0.625  # of four flips, three or more to one side: 2 · (4 + 1) / 2⁴


def test_wrong_to_other_wrong(tmp_path):
    rows = {"x": ("bass", "test", "alto", "i", None, None), "y": ("alto", "test", "alto", "j", None, None)}
    other = rows | {"x": ("bass", "test", "tenor", "i", None, None)}
    found = compare(tiny_versions.write(tmp_path / "one", rows), tiny_versions.write(tmp_path / "two", other))
    assert found["predictions"]["flips"]["wrong to other wrong"]["count"] == 1
    assert found["predictions"]["accuracy"]["delta"] == 0


def test_environment_code_and_size(old, new):
    found = compare(old, new)
    assert found["environment"] == [
        {"name": "libraries.mmpipe", "old": "0.1.0", "new": "0.2.0"},
        {"name": "libraries.torch", "new": "2.11.0"},
    ]
    parts = {"changed": ["mmpipe.train"], "added": [], "removed": []}
    assert found["code"] == [{"stage": "train", **parts}]
    sizes = {one["name"]: (one["old"], one["new"]) for one in found["size"]["files"]}
    assert sizes[bundle.WEIGHTS] == (len(b"weights"), len(b"other weights"))
    assert found["size"]["new"] == sum(len(data) for data in bundle.read(new / paths.BUNDLE).files.values())


def test_what_is_not_there_is_said_and_the_rest_goes_on(old, new):
    (new / paths.SAMPLES).unlink()
    (old / paths.METRICS / "evaluate.json").unlink()
    found = compare(old, new)
    assert found["data"]["missing"].endswith("data/samples.parquet is not there: run `dvc repro`")
    assert found["metrics"]["missing"] == found["classes"]["missing"]
    assert found["predictions"]["samples"] == 3  # without samples, by label alone: a, b and d
    assert len(found["params"]) == 3
    assert any(line.startswith("Data:        not compared: ") for line in text.lines(found))


def test_a_bundle_alone_has_its_metrics_and_params(old, new):
    found = compare(old / paths.BUNDLE, new / paths.BUNDLE)
    assert next(row for row in found["metrics"] if row["name"] == "accuracy")["delta"] == 0.25
    assert found["params"] == []  # of what the bundles' configs say
    assert {name for name in difference.SECTIONS if "missing" in found[name]} == {
        "data",
        "splits",
        "predictions",
        "code",
    }


def test_damage_ends_the_comparison(old, new):
    path = new / paths.SAMPLES
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"samples\.parquet is damaged"):
        compare(old, new)


def test_neither_tag_nor_folder(tmp_path):
    for what in ("nowhere", str(tmp_path)):
        with pytest.raises(NotFoundError, match="neither a tag nor a workspace nor a bundle"):
            side.read(what)


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


class Elements(HTMLParser):
    """Start tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "path", "use", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def hostile(tmp_path):
    """Labels, ids and parameters that are markup and escapes."""
    rows = {f"{EVIL}{n}": (EVIL, "test", EVIL if n else "bass", f"i{n}", EVIL, None) for n in range(3)}
    params = f"train:\n  note: {json.dumps(EVIL)}\n"
    return tiny_versions.write(tmp_path / "hostile", rows, params=params, recalls={EVIL: 0.25})


def test_page_runs_nothing_and_loads_nothing(old, hostile):
    html = page.render(compare(old, hostile))
    found = Elements(html)
    assert found.open == []
    assert not {"script", "iframe", "object", "embed", "link", "base", "img"} & {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    targets = [a[name] for _, a in found.tags for name in ("href", "src") if name in a]
    assert targets and all(target.startswith("#") for target in targets)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert not set("\u202e\x1b") & set(html)
    assert "".join(found.words).count("<script>alert") >= 6  # as words
    assert html == page.render(compare(old, hostile))


def test_page_has_every_section_and_number(old, new):
    found = compare(old, new)
    words = "".join(Elements(page.render(found)).words)
    for line in text.lines(found):
        lead = line.partition(":")[2].strip()
        if line[0] != " " and lead:
            assert lead in words or line.startswith(str(old))
    assert "0.750 [0.650, 0.850]" in words and "+0.250" in words
    assert "Accuracy of each subset" in page.render(found)


def call(*arguments):
    return CliRunner().invoke(app, ["diff", *map(str, arguments)], catch_exceptions=False)


def test_the_command_prints_text_json_and_page(old, new, hostile, tmp_path):
    assert "train.lr" in call(old, new).stdout
    html = tmp_path / "pages/out.html"
    done = call(old, new, "--json", "--html", html)
    assert json.loads(done.stdout) == json.loads(json.dumps(compare(old, new)))
    assert html.read_text() == page.render(compare(old, new))
    assert not set("\u202e\x1b") & set(call(old, hostile).stdout)
    assert call(old, "nowhere").exit_code == 3


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
