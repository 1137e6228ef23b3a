"""Which stages an edit of ours runs again: through imports, parameters' defaults and what is left out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from workspace import REPOSITORY, copy_package, edit

from mmpipe import fingerprint, schema
from mmpipe.params import Params
from mmpipe.stages import code

USED = {
    "board": {"show"},
    "epochs": {"Epochs"},
    "interrupt": {"Interrupt"},
    "progress": {"bar"},
    "stages.process": {"run"},
    "terminal": set(),
    "params": {"Params", "Split", "load"},
    "rules": set(),
    "section": set(),
    "sense": set(),
    "weights": {"CONFIG", "Weights", "find", "identity"},
    "yaml_text": set(),
}
"""What stages use of the modules left out. Before you add a name: can it change what a stage writes?"""


@pytest.fixture
def package(tmp_path):
    return copy_package(tmp_path).parent


def stages_of(site):
    return {
        stage: fingerprint.of_modules(
            *code.modules(stage, "classify"), site=site, without=code.JUDGES.get(stage, ())
        )
        for stage in code.SECTIONS
    }


EXTRACTS = {"extract_audio", "extract_image", "extract_text"}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("features/audio.py", {"extract_audio"}),
        ("features/image.py", {"extract_image"}),
        ("features/text.py", {"extract_text", "tokenizer"}),
        ("media/audio.py", {"extract_audio", "ingest"}),
        ("features/store.py", EXTRACTS),
        ("worker.py", EXTRACTS | {"ingest"}),
        ("train.py", {"train"}),
        ("scorecard.py", {"evaluate"}),
        ("label_findings.py", {"evaluate"}),
        ("findings.py", {"evaluate", "bundle", "report"}),
        ("tasks/classify.py", {"train", "evaluate"}),
        ("errors.py", {*code.SECTIONS}),
        ("files.py", {*code.SECTIONS}),
        *[(f"{name.replace('.', '/')}.py", set()) for name in fingerprint.LEFT_OUT],
    ],
)
def test_an_edit_of_ours_changes_the_stages_that_use_it(package, name, stages):
    before = stages_of(package)
    path = package / "mmpipe" / name
    path.write_text(path.read_text() + "\n_UNUSED = 1\n")
    after = stages_of(package)
    assert {stage for stage in after if after[stage] != before[stage]} == stages


def test_a_release_runs_what_writes_its_name(package):
    before = stages_of(package)
    edit(package, "__init__.py", '= "', '= "1', package="mmpipe")
    after = stages_of(package)
    assert {stage for stage in after if after[stage] != before[stage]} == {"train", "report"}


def trees():
    """Name → syntax tree of every module that counts for some stage."""
    names = {name for found in stages_of(REPOSITORY).values() for name in found["modules"]}
    assert len(names) > 40
    return {name: ast.parse(fingerprint._source(name, REPOSITORY).read_text()) for name in names}


def test_stages_use_of_what_is_left_out_nothing_that_is_written():
    used = {name: set() for name in fingerprint.LEFT_OUT}
    contexts, calls = set(), set()
    for tree in trees().values():
        modules = {}  # local name → module that is left out
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                source = node.module.removeprefix("mmpipe").removeprefix(".")
                if source in used:
                    used[source] |= {alias.name for alias in node.names}
                full = {alias.name: f"{source}.{alias.name}".removeprefix(".") for alias in node.names}
                modules |= {local: name for local, name in full.items() if name in used}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (name := ast.unparse(node.value)) in modules:
                used[modules[name]].add(node.attr)
            if isinstance(node, ast.With):
                contexts |= {id(item.context_expr) for item in node.items}
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                calls |= {id(node)} if name in {"Epochs", "Interrupt", "bar"} else set()
    assert used == USED
    assert calls and calls <= contexts, (
        "what shows something is a context around the work, and no value of it"
    )


def test_the_fix_of_an_error_is_written_by_the_report_alone():
    users = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.alias) and node.name == "FIXES")
        or (isinstance(node, ast.Attribute) and node.attr in {"FIXES", "fix"})
    }
    assert users == {"mmpipe.datacard", "mmpipe.errors"}


def test_everything_left_out_or_apart_exists():
    assert set(USED) == set(fingerprint.LEFT_OUT)
    for name in fingerprint.LEFT_OUT:
        assert fingerprint._source(f"mmpipe.{name}", REPOSITORY), name
    for name in fingerprint.APART:
        module, _, constant = f"mmpipe.{name}".rpartition(".")
        tree = ast.parse(fingerprint._source(module, REPOSITORY).read_text())
        assert [s for s in tree.body if fingerprint._constant(s) == constant], name


def test_sections_are_the_params_of_the_pipeline():
    found = {}
    for name, stage in YAML(typ="safe").load(REPOSITORY / "dvc.yaml")["stages"].items():
        for key in stage.get("foreach", [""]):
            made = stage.get("do", stage)
            params = [param.replace("${key}", key) for param in made.get("params", [])]
            found[f"{name}_{key}".rstrip("_")] = params
    assert found.pop("code") == []
    assert found == {stage: list(sections) for stage, sections in code.SECTIONS.items()}


@pytest.mark.parametrize("stage", [stage for stage in code.SECTIONS if "_" not in stage])
def test_a_stage_reads_its_own_sections_only(stage):
    nodes = list(ast.walk(ast.parse((REPOSITORY / f"mmpipe/stages/{stage}.py").read_text())))
    loaded = {"params", "load(paths.PARAMS)", "params.load(paths.PARAMS)"}
    named = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) in loaded}
    if stage == "train":  # has a list of sections, too
        named |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    read = named & set(Params.model_fields)
    assert read and read <= set(code.SECTIONS[stage])
    computed = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "getattr"]
    assert not computed or stage == "train", "give the section by name"


PARAMS = "text:\n  vocab_size: 500\ntrain:\n  epochs: 3\n"


def written(site, folder):
    """What the stage `code` of the package at `site` writes: stage → bytes."""
    (folder / "params.yaml").write_text(PARAMS)
    command = [sys.executable, "-m", "mmpipe.stages.code"]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(site)}, check=True)
    return {path.stem: path.read_bytes() for path in (folder / "data/code").iterdir()}


@pytest.mark.parametrize(
    ("name", "old", "new", "stages"),
    [
        ("errors.py", '"restore the file from its source"', '"bring the file back"', {"report"}),
        ("params.py", "le=100)] = 8", "le=100)] = 9", {"report"}),
        ("params.py", "class Report(Section):", "class Report(Section):\n    new: int = 1\n", {"report"}),
        ("learning.py", "= 2e-3", "= 1e-3", {"train"}),
        ("learning.py", "epochs: Positive = 60", "epochs: Positive = 61", set()),  # params.yaml has its own
        (
            "modalities.py",
            "lowercase: bool = True",
            "lowercase: bool = False",
            {"tokenizer", "extract_text", "train"},
        ),
        ("modalities.py", "n_mels: Annotated[int, Field(ge=8", "n_mels: Annotated[int, Field(ge=9", set()),
        ("section.py", "no such key", "no key of this name", set()),
    ],
)
def test_a_default_runs_the_stages_that_come_to_use_it(package, tmp_path, name, old, new, stages):
    folder = tmp_path / "workspace"
    folder.mkdir()
    before = written(package, folder)
    edit(package, name, old, new, package="mmpipe")
    after = written(package, folder)
    assert {stage for stage in after if after[stage] != before[stage]} == stages


def test_the_stage_writes_one_file_a_stage_and_imports_nothing_heavy(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    script = (
        "import sys, mmpipe.stages.code as c; c.main();"
        "bad = {'torch', 'cv2', 'pyarrow', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert {path.stem for path in (tmp_path / "data/code").iterdir()} == set(code.SECTIONS)
    assert code.MODALITIES == schema.MODALITIES
    outs = YAML(typ="safe").load(REPOSITORY / "dvc.yaml")["stages"]["code"]["outs"]
    assert {Path(out).stem for out in outs} == set(code.SECTIONS)


def test_the_template_of_the_report_counts():
    found = code.fingerprints(Path(__file__).parents[1])
    assert list(found["report"]["files"]) == [
        f"templates/{name}" for name in ("page.css", "report.html.j2", "saliency.html.j2")
    ]


@pytest.mark.parametrize(
    ("stage", "pretrained", "counts"),
    [
        ("train", ["image", "text"], True),
        ("extract_image", ["image", "text"], True),
        ("train", ["text"], False),
        ("extract_text", ["image", "text"], False),
        ("train", [], False),
    ],
)
def test_timm_counts_where_pictures_have_pretrained_weights(stage, pretrained, counts):
    found = code.modules(stage, "classify", pretrained)
    assert ("mmpipe.model.timm_net" in found) == counts
    assert ("mmpipe.model.auto" in found) == bool(pretrained)
