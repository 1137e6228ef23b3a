"""What the result of a piece of code depends on: its import closure as syntax trees, and library versions.

Read from source by `ast`; nothing is imported. Comments, docstrings and layout do not count; imports within
functions do. Data files of the package (templates, say) count by their bytes where a module that loads
package data, by `importlib.resources` or `jinja2`, names them in a string.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

SITE = Path(__file__).parents[1]
"""The folder that holds the package."""
SHOW_ONLY = frozenset({"click", "rich", "typer"})
"""Libraries that change what is shown and never what is written."""
LOADERS = frozenset({"importlib.resources", "jinja2"})
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


def of_modules(*names: str, site: Path = SITE) -> dict[str, Any]:
    """Fingerprint of what the named modules import, inside their package and outside.

    `modules`: name → sha256 of its normalised syntax tree; `files`: data file → sha256; `libraries`: import
    name → version, null where it is not installed; `python`: "3.11". What libraries import is not followed.
    """
    package = names[0].split(".")[0]
    modules: dict[str, _Module] = {}
    waiting = [parent for name in names for parent in _parents(name)]
    while waiting:
        name = waiting.pop()
        path = _source(name, site)
        if name in modules or path is None:
            continue
        package_name = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = _read(path.read_bytes(), package_name)
        inside = (i for i in modules[name].imports if i.split(".")[0] == package)
        waiting.extend(parent for imported in inside for parent in _parents(imported))
    missing = [name for name in names if name not in modules]
    assert not missing, f"no source of {missing} below {site}"
    imported = {i for module in modules.values() for i in module.imports}
    return {
        "modules": {n: m.digest(f"{n}.__version__" in imported) for n, m in sorted(modules.items())},
        "files": _data_files(site / package, {s for module in modules.values() for s in module.strings}),
        "libraries": {top: _version(top) for top in sorted(_outside(imported, package))},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def digest(*values: Any) -> str:
    """sha256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Module:
    """One source file: hashes without and with its `__version__`, full import names, strings to look for."""

    digests: tuple[str, str]
    imports: frozenset[str]
    strings: frozenset[str]

    def digest(self, with_version: bool) -> str:
        """A release alone changes no result, except of code that reads the version."""
        return self.digests[with_version]


@cache
def _read(source: bytes, package: str) -> _Module:
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    statements = (node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)))
    imports = frozenset(name for statement in statements for name in _imported(statement, package))
    for node in nodes:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [statement for statement in node.body if not _is_comment(statement)]
    strings = frozenset(_strings(nodes)) if imports & LOADERS else frozenset[str]()
    whole = _hash(tree)
    rest = [statement for statement in tree.body if not _is_version(statement)]
    if len(rest) == len(tree.body):
        return _Module((whole, whole), imports, strings)
    tree.body = rest
    return _Module((_hash(tree), whole), imports, strings)


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


def _is_version(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__"


def _hash(tree: ast.AST) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


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


def _outside(imported: set[str], package: str) -> set[str]:
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
