"""Fingerprints: what counts, what does not, and that nothing is imported to find out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmpipe import fingerprint, schema
from mmpipe.stages import code

REPOSITORY = Path(__file__).parents[1]
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
    "alone.py": "raise RuntimeError('imported')\n",
}


@pytest.fixture
def site(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(site, name, old, new):
    path = site / "pack" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def of(site, *names):
    return fingerprint.of_modules(*names, site=site)


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


@pytest.fixture
def package(tmp_path):
    shutil.copytree(REPOSITORY / "mmpipe", tmp_path / "mmpipe", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def stages_of(site):
    names = {stage: (f"mmpipe.stages.{stage}",) for stage in ("tokenizer", "extract")}
    names |= {f"extract_{m}": ("mmpipe.stages.extract", f"mmpipe.features.{m}") for m in schema.MODALITIES}
    return {stage: fingerprint.of_modules(*modules, site=site) for stage, modules in names.items()}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("features/audio.py", {"extract_audio"}),
        ("features/image.py", {"extract_image"}),
        ("features/text.py", {"extract_text", "tokenizer"}),
        ("media/audio.py", {"extract_audio"}),
        ("features/store.py", {"extract", "extract_audio", "extract_image", "extract_text"}),
        ("train.py", set()),
    ],
)
def test_an_edit_of_ours_changes_the_stages_that_use_it(package, name, stages):
    before = stages_of(package)
    path = package / "mmpipe" / name
    path.write_text(path.read_text() + "\n_UNUSED = 1\n")
    after = stages_of(package)
    assert {stage for stage in after if after[stage] != before[stage]} == stages


def test_the_stage_writes_one_file_a_stage_and_imports_nothing_heavy(tmp_path):
    script = (
        "import sys, mmpipe.stages.code as c; c.main();"
        "bad = {'torch', 'cv2', 'pyarrow', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    wanted = {*code.STAGES, *(f"extract_{m}" for m in schema.MODALITIES)}
    assert {path.stem for path in (tmp_path / "data/code").iterdir()} == wanted
    assert code.MODALITIES == schema.MODALITIES
    text = (REPOSITORY / "dvc.yaml").read_text()
    assert wanted == {
        line.split("/")[-1].removesuffix(".json")
        for line in text.splitlines()
        if "- data/code/" in line and "${" not in line
    }
