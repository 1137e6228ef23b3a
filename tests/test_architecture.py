"""The rules of docs/architecture.md, held against every module's syntax tree."""

import ast
from functools import cache
from pathlib import Path

import pytest

import mmpipe

PACKAGE = Path(mmpipe.__file__).parent
LAYERS = {
    0: ("mmpipe", "errors", "paths", "processes", "terminal"),
    1: (
        "files",
        "interrupt",
        "judging",
        "learning",
        "modalities",
        "params",
        "progress",
        "rules",
        "runtime",
        "schema",
        "section",
        "sense",
        "snapshot",
        "tags",
        "trees",
        "worker",
        "writing",
        "yaml_text",
    ),
    2: (
        "bundle",
        "executors",
        "fingerprint",
        "lockfile",
        "locks",
        "media.*",
        "sheets",
        "tables",
        "vcs",
        "weights",
    ),
    3: (
        "answer_scorecard",
        "answers.*",
        "blueprint",
        "calibration",
        "charts",
        "class_folders",
        "corpora.*",
        "embed",
        "features.*",
        "findings",
        "gate",
        "groups",
        "guards",
        "guess",
        "guess_task",
        "heat",
        "imbalance",
        "ingest",
        "inspection",
        "label_findings",
        "manifest",
        "metrics",
        "model.encoders",
        "multilabel_scorecard",
        "pages",
        "model.auto",
        "model.efficientnet",
        "model.encoders.audio",
        "model.encoders.image",
        "model.encoders.pretrained",
        "model.encoders.text",
        "model.parts",
        "model.pickled",
        "model.pretrained",
        "model.timm_net",
        "model.waves",
        "model.width",
        "paired",
        "records.*",
        "registry.*",
        "regression_scorecard",
        "retrieval_scorecard",
        "row",
        "scorecard",
        "shift",
        "split",
        "targets",
        "testset",
        "thresholds",
        "transcript_scorecard",
        "transcripts.*",
        "uncorrected",
        "verdict",
    ),
    4: ("augment", "batches", "model.*", "objective", "preprocess", "tasks.*"),
    5: (
        "board",
        "curves",
        "epochs",
        "evaluate",
        "model.checkpoint",
        "model.complexity",
        "model.configuration",
        "onnx_file",
        "resume",
        "stacking",
        "train",
        "validation",
    ),
    6: (
        "balance",
        "card",
        "compare.*",
        "contribution",
        "datacard",
        "export",
        "exported",
        "gallery",
        "importance",
        "latency",
        "overview",
        "parity",
        "partway",
        "predict",
        "predict_table",
        "report",
        "saliency",
        "search",
        "serve.*",
        "trial",
    ),
    7: ("init", "reproduce.*", "retrain.*", "stages.*", "sweep.*"),
    8: ("cli", "commands.*"),
}
"""A module imports only from its own layer and below. A plain name goes before one with a star."""

ONLY_IN = {
    "torch": (
        "runtime",
        "model.*",
        "tasks.*",
        "batches",
        "augment",
        "train",
        "evaluate",
        "export",
        "exported",
        "predict",
        "board",
        "features.audio",
        "features.embedding",
        "curves",
        "imbalance",
        "objective",
        "resume",
        "saliency",
        "stacking",
        "validation",
    ),
    "captum": ("saliency",),
    "timm": ("model.timm_net",),
    "transformers": ("model.auto",),
    "onnx": ("onnx_file",),
    "onnxruntime": ("onnx_file",),
    "huggingface_hub": ("weights",),
    "torchaudio": ("features.audio",),
    "cv2": ("media.image", "features.image"),
    "subprocess": ("vcs",),
    "typer": ("commands.*",),
    "jinja2": ("pages", "card"),
    "dvclive": ("curves",),
    "dvc": ("registry.*", "retrain.*"),
    "gto": ("registry.*",),
    "fastapi": ("serve.*",),
    "starlette": ("serve.*",),
    "uvicorn": ("serve.*",),
    "python_multipart": ("serve.*",),
    "prometheus_client": ("serve.*",),
    "pyaudio": ("media.microphone",),
    "optuna": ("sweep.study",),
    "mmpipe.params": ("stages.*", "commands.*", "init", "retrain.*", "sweep.search", "sweep.space"),
    "mmpipe.judging": ("params",),
    "mmpipe.sense": ("params",),
    "mmpipe.modalities": ("params",),
    "mmpipe.learning": ("params",),
    "mmpipe.stages": ("stages.*", "commands.*", "retrain.*"),
    "pickle": ("executors", "worker"),  # between a process and its own workers, never from a file
}
NOWHERE = ("prefect", "dill", "shelve", "marshal", "joblib", "requests", "urllib.request")
FORBIDDEN_CALLS = (
    "torch.load",
    "cv2.imread",
    "os.system",
    "eval",
    "exec",
    "yaml.load",
    "np.load",
    "numpy.load",
)
MAX_FILE, MAX_FUNCTION, MAX_STAGE_MAIN = 300, 40, 25


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "mmpipe"


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
CODE_IN_INIT = {"mmpipe", "model.encoders"}
FOLDERS = {name_of(path) for path in PACKAGE.rglob("__init__.py")} - CODE_IN_INIT
MODULES = sorted(set(TREES) - FOLDERS)


def matches(module: str, pattern: str) -> bool:
    return module == pattern or (pattern.endswith(".*") and module.startswith(pattern[:-1]))


def known_pickle(module: str, call: ast.Call) -> bool:
    """Of bytes whose sha256 is in the source (docs/decisions/0007), by an unpickler that calls nothing."""
    told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return module == "model.pickled" and told.get("weights_only") == "True"


def layer_of(module: str) -> int:
    exact = [layer for layer, names in LAYERS.items() if module in names]
    by_star = [layer for layer, names in LAYERS.items() if any(matches(module, name) for name in names)]
    found = exact or by_star
    assert len(found) == 1, f"give mmpipe.{module} one place in LAYERS and in docs/architecture.md"
    return found[0]


@cache
def imports(module: str) -> frozenset[str]:
    """Everything a module imports, functions' own imports included; ours as `mmpipe.x`, to the module."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@cache
def inner_imports(module: str) -> frozenset[str]:
    """Modules of the package that a module imports."""
    found = set()
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "mmpipe":
            inner = [".".join(parts[1:end]) for end in (len(parts), len(parts) - 1)]
            found.add(next((i for i in inner if i in MODULES), "mmpipe"))
    return frozenset(found)


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_there_is_a_package():
    assert len(MODULES) > 40 and sum(len(functions(tree)) for tree in TREES.values()) > 200


def test_every_named_module_exists():
    names = [name for group in (*LAYERS.values(), *ONLY_IN.values()) for name in group]
    assert [name for name in names if not any(matches(module, name) for module in TREES)] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    above = [other for other in inner_imports(module) if layer_of(other) > layer_of(module)]
    assert above == [], f"{module} is of layer {layer_of(module)}"


def test_no_imports_in_a_circle():
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way, module))
        if module not in done:
            for other in inner_imports(module) - {"mmpipe"}:
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
    assert len(done) >= len(MODULES) - 1


@pytest.mark.parametrize("library", [*ONLY_IN, *NOWHERE])
def test_libraries_stay_where_they_belong(library):
    allowed = ONLY_IN.get(library, ())
    users = [m for m in MODULES if any(f"{name}.".startswith(f"{library}.") for name in imports(m))]
    assert users or library not in ONLY_IN, f"nothing imports {library}"
    assert [user for user in users if not any(matches(user, name) for name in allowed)] == []
    unused = [name for name in allowed if not any(matches(user, name) for user in users)]
    assert unused == [], f"no such module imports {library}: take it from ONLY_IN"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module):
    assert len(FILES[module].read_text().splitlines()) <= MAX_FILE
    long = {f.name: length(f) for f in functions(TREES[module]) if length(f) > MAX_FUNCTION}
    assert long == {}


def test_stage_mains_load_call_write():
    mains = {
        module: function
        for module in MODULES
        if module.startswith("stages.")
        for function in functions(TREES[module])
        if function.name == "main"
    }
    assert len(mains) >= 9
    assert {module: length(f) for module, f in mains.items() if length(f) > MAX_STAGE_MAIN} == {}


@pytest.mark.parametrize("module", MODULES)
def test_no_dangerous_calls_and_no_blanket_excepts(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert not {"everything", "Exception", "BaseException"} & set(caught.strip("()").split(", ")), (
                node.lineno
            )
        if isinstance(node, ast.Call):
            forbidden = ast.unparse(node.func) in FORBIDDEN_CALLS and not known_pickle(module, node)
            assert not forbidden, f"{module}:{node.lineno}"
            assert not any(k.arg == "shell" for k in node.keywords), f"{module}:{node.lineno}"
            pickled = [
                k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"
            ]
            assert not pickled, f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_does_no_work(module):
    """At the top of a module: docstrings, imports, definitions, constants, settings."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
        ast.AugAssign,
        ast.Try,
    )
    for node in TREES[module].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        setting = isinstance(node, ast.Expr) and ast.unparse(node).startswith("os.environ.setdefault(")
        main = isinstance(node, ast.If) and ast.unparse(node.test) in (
            "__name__ == '__main__'",
            "TYPE_CHECKING",
        )
        assert docstring or setting or main or isinstance(node, allowed), f"{module}:{node.lineno}"


def test_every_module_says_what_it_owns():
    assert [module for module in MODULES if not ast.get_docstring(TREES[module])] == []


def test_no_drawers_for_odds_and_ends():
    odd = {"utils", "util", "helpers", "common", "misc", "manager", "core"}
    assert MODULES and not {m for m in MODULES if m.rpartition(".")[2] in odd}
