"""Fingerprints: what counts, what does not, and that nothing is imported to find out."""

import sys

import pytest
from workspace import edit

from mmpipe import fingerprint

FILES = {
    "__init__.py": '__version__ = "1"\n',
    "a.py": '"""Doc."""\nfrom pack.sub import b\n\n\ndef f():\n'
    '    """Doc."""\n    from . import c\n    return b, c\n',
    "sub/__init__.py": "FLAG = 1\n",
    "sub/b.py": "from ..d import D\n",
    "c.py": "import os\nimport numpy.linalg\nimport rich.progress\n",
    "d.py": "D = 4\n",
    "e.py": "from pack import __version__\n",
    "shows.py": 'from importlib import resources\nimport importlib.resources\nPAGE = "page.html"\n',
    "templates/page.html": "{% include 'part.html' %}",
    "templates/part.html": "part",
    "templates/other.html": "other",
    "errors.py": 'FIXES: dict[str, str] = {"a": "do it"}\n\n\nclass E(Exception):\n'
    "    def __init__(self, code):\n        self.fix = FIXES[code]\n",
    "raises.py": "from pack.errors import E\nimport numpy\nV = numpy.FIXES\n",
    "tells.py": "from pack.errors import FIXES\n",
    "tells_too.py": "import pack.errors as e\nF = e.FIXES\n",
    "bars.py": "from pack.progress import bar\n",
    "progress.py": "import rich, pyarrow\nfrom pack import d\n",
    "alone.py": "raise RuntimeError('imported')\n",
}


@pytest.fixture
def site(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def of(site, *names, **arguments):
    return fingerprint.of_modules(*names, site=site, **arguments)


def test_closure_follows_every_kind_of_import_inside_the_package(site):
    found = of(site, "pack.a")
    assert sorted(found["modules"]) == ["pack", "pack.a", "pack.c", "pack.d", "pack.sub", "pack.sub.b"]
    assert list(found["libraries"]) == ["numpy"]
    assert found["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("d.py", "D = 4", "# why\nD = (4)  # because"),
        ("a.py", '    """Doc."""\n', '    """Other words."""\n'),
        ("a.py", '"""Doc."""\nfrom', "from"),
        ("__init__.py", '"1"', '"2"'),
        ("alone.py", "imported", "edited"),
    ],
)
def test_words_layout_release_and_foreign_modules_do_not_count(site, name, old, new):
    before = of(site, "pack.a")
    edit(site, name, old, new)
    assert of(site, "pack.a") == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("d.py", "4", "5"),
        ("sub/__init__.py", "1", "2"),
        ("c.py", "import os", "import sys"),
        ("a.py", "b, c", "c, b"),
    ],
)
def test_a_real_edit_anywhere_in_the_closure_counts(site, name, old, new):
    before = of(site, "pack.a")
    edit(site, name, old, new)
    after = of(site, "pack.a")
    changed = {module for module in after["modules"] if after["modules"][module] != before["modules"][module]}
    assert changed == {"pack." + name[:-3].replace("/", ".").removesuffix(".__init__")}


def test_the_version_counts_for_code_that_reads_it(site):
    before = of(site, "pack.e")
    edit(site, "__init__.py", '"1"', '"2"')
    assert of(site, "pack.e") != before


def test_the_fixes_count_for_code_that_names_them_and_the_rest_of_their_module_for_all(site):
    names = ("pack.raises", "pack.tells", "pack.tells_too")
    before = [of(site, name) for name in names]
    edit(site, "errors.py", "do it", "do that")
    after = [of(site, name) for name in names]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, False]
    edit(site, "errors.py", "FIXES[code]", "code")
    assert all(of(site, name) != old for name, old in zip(names, after, strict=True))


def test_what_is_left_out_is_not_followed(site):
    before = of(site, "pack.bars")
    assert (list(before["modules"]), before["libraries"]) == (["pack", "pack.bars"], {})
    edit(site, "progress.py", "d", "c")
    assert of(site, "pack.bars") == before
    assert "pack.d" not in of(site, "pack.a", without=["sub.b"])["modules"]


def test_data_files_count_where_code_names_them(site):
    assert of(site, "pack.a")["files"] == {}
    assert list(of(site, "pack.shows")["files"]) == ["templates/page.html", "templates/part.html"]


def test_a_librarys_version_counts(site, monkeypatch):
    before = of(site, "pack.a")
    fingerprint._version.cache_clear()
    monkeypatch.setattr(fingerprint.metadata, "version", lambda name: "0.0.1")
    after = of(site, "pack.a")
    fingerprint._version.cache_clear()
    assert before["modules"] == after["modules"]
    assert after["libraries"] == {"numpy": "0.0.1"} != before["libraries"]


def test_opencv_is_one_library_under_either_name():
    found = fingerprint.of_modules("mmpipe.media.image")
    assert found["libraries"]["cv2"][0].isdigit()
