"""What the result of a piece of code depends on: its import closure as syntax trees, and library versions.

Read from source by `ast`; nothing is imported. Comments, docstrings and layout do not count, nor the modules
`LEFT_OUT`; imports within functions do. Data files of the package (templates, say) count by their bytes where
a module that loads package data (`LOADERS`) names them in a string.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

SITE = Path(__file__).parents[1]
"""The folder that holds the package."""
SHOW_ONLY = frozenset({"click", "rich", "typer"})
"""Libraries that change what is shown and never what is written."""
LEFT_OUT = {
    # They say how a run goes, and when and with which words it ends: what it writes is the same without them.
    "board": "shows a finished training in TensorBoard, whose events are no output",
    "epochs": "shows each epoch on stderr",
    "interrupt": "chooses when a signal stops a training, which then goes on to the same weights",
    "progress": "shows a bar on stderr",
    "stages.process": "signals, the words of an error and the exit status of a process",
    "terminal": "makes words harmless for a terminal",
    # They turn params.yaml into values: who asks for a fingerprint adds the values (`stages.code`).
    "params": "the sections and their defaults",
    "rules": "refuses values",
    "section": "refuses values, with words",
    "sense": "refuses values, with words",
    # It finds files and hashes them: the fingerprints of the stages that read weights have this hash.
    "weights": "brings pretrained weights, which are known by their sha256 or commit",
    "yaml_text": "reads values",
}
"""Modules of the package that are not followed, and why what is written does not depend on their code.

When in doubt, do not add one. A test holds what the stages import from them.
"""
APART = frozenset({"__version__", "errors.FIXES"})
"""Constants of the package that count only where a module other than their own names them.

A release alone changes no result; the fixes are words for people, which the report alone writes down.
"""
_NAMES_APART = frozenset(name.split(".")[-1] for name in APART)
LOADERS = frozenset({"importlib.resources", "jinja2", "mmpipe.pages"})
"""A module that imports one of these may read data files of the package."""
_DISTRIBUTIONS = {
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "ruamel": ("ruamel.yaml",),
    "yaml": ("pyyaml",),
    "PIL": ("pillow",),
    "sklearn": ("scikit-learn",),
}
"""Distributions whose name is not that of the import; all of one name are the same library."""


def of_modules(*names: str, site: Path = SITE, without: Iterable[str] = ()) -> dict[str, Any]:
    """Fingerprint of what the named modules import, inside their package and outside.

    `modules`: name → sha256 of its normalised syntax tree; `files`: data file → sha256; `libraries`: import
    name → version, null where it is not installed; `python`: "3.11". What libraries import is not followed,
    nor are `LEFT_OUT` and `without`, which name modules relative to the package.
    """
    package = names[0].split(".")[0]
    modules: dict[str, _Module] = {}
    passed_over = {f"{package}.{name}" for name in (*LEFT_OUT, *without)}
    waiting = [parent for name in names for parent in _parents(name)]
    while waiting:
        name = waiting.pop()
        path = _source(name, site)
        if name in modules or name in passed_over or path is None:
            continue
        package_name = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = _read(path.read_bytes(), package_name)
        inside = (i for i in modules[name].imports if i.split(".")[0] == package)
        waiting.extend(parent for imported in inside for parent in _parents(imported))
    missing = [name for name in names if name not in modules]
    assert not missing, f"no source of {missing} below {site}"
    imported = {i for module in modules.values() for i in module.imports}
    return {
        "modules": {name: _digest(name, modules, package) for name in sorted(modules)},
        "files": _data_files(site / package, {s for module in modules.values() for s in module.strings}),
        "libraries": {top: _version(top) for top in sorted(_outside(imported, package))},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def digest(*values: Any) -> str:
    """sha256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Module:
    """One source file.

    `statements`: the name of `APART` that one sets, else None, and its syntax tree. `named`: the names of
    `APART` that its code uses. `strings`: those that may be names of data files.
    """

    statements: tuple[tuple[str | None, str], ...]
    imports: frozenset[str]
    named: frozenset[str]
    strings: frozenset[str]


def _digest(name: str, modules: Mapping[str, _Module], package: str) -> str:
    """Of one module, without the constants of `APART` that no other of `modules` names."""
    named = {constant for other, module in modules.items() if other != name for constant in module.named}
    left = {f"{package}.{constant}" for constant in APART if constant.split(".")[-1] not in named}
    kept = [tree for constant, tree in modules[name].statements if f"{name}.{constant}" not in left]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


@cache
def _read(source: bytes, package: str) -> _Module:
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    statements = (node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)))
    imports = frozenset(name for statement in statements for name in _imported(statement, package))
    for node in nodes:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [statement for statement in node.body if not _is_comment(statement)]
    return _Module(
        statements=tuple((_constant(statement), ast.dump(statement)) for statement in tree.body),
        imports=imports,
        named=_NAMES_APART.intersection(_named(nodes, _outside(imports, package.split(".")[0]))),
        strings=frozenset(_strings(nodes)) if imports & LOADERS else frozenset(),
    )


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """Full names that an import statement may bring in; `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names)


def _strings(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_comment(statement: ast.stmt) -> bool:
    """A string that stands alone: a docstring of a module, class, function or attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _constant(statement: ast.stmt) -> str | None:
    """The name of `APART` that a statement sets, where it does nothing else."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names[0] if len(targets) == len(names) == 1 and names[0] in _NAMES_APART else None


def _named(nodes: list[ast.AST], libraries: set[str]) -> Iterator[str]:
    """The names of `APART` that code uses: imported, alone, or as an attribute of anything but a library."""
    for node in nodes:
        if isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in _NAMES_APART
            and ast.unparse(node.value) not in libraries
        ):
            yield node.attr


def _parents(name: str) -> list[str]:
    """a.b.c → a, a.b, a.b.c: importing the last runs them all."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _source(name: str, site: Path) -> Path | None:
    base = site.joinpath(*name.split("."))
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


def _data_files(package: Path, strings: set[str]) -> dict[str, str]:
    """Files of the package, other than source, that `strings` or another of these files names."""
    data = {
        p for p in sorted(package.rglob("*")) if p.is_file() and p.suffix not in (".py", ".pyc", ".typed")
    }
    found: dict[str, str] = {}
    waiting = [p for p in data if not {p.name, str(p.relative_to(package))}.isdisjoint(strings)]
    while waiting:
        path = waiting.pop()
        name, content = str(path.relative_to(package)), path.read_bytes()
        if name not in found:
            found[name] = hashlib.sha256(content).hexdigest()
            waiting.extend(p for p in data if p.name.encode() in content)
    return dict(sorted(found.items()))


def _outside(imported: Set[str], package: str) -> set[str]:
    tops = {name.split(".")[0] for name in imported}
    return tops - {package} - SHOW_ONLY - set(sys.stdlib_module_names)


@cache
def _version(top: str) -> str | None:
    """Version of the distribution that an import name comes from; None where none is installed."""
    for name in _DISTRIBUTIONS.get(top, (top,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if top in _DISTRIBUTIONS:
        return None
    names = metadata.packages_distributions().get(top, [])  # half a second: only for what no name tells
    return metadata.version(names[0]) if names else None
