"""Keys of `params.yaml` set for one run; all else in the file stays as it was written."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.representer import RoundTripRepresenter

from mmpipe import params, paths, yaml_text
from mmpipe.errors import UsageError
from mmpipe.files import write_bytes

_NULL = "tag:yaml.org,2002:null"


def apply(root: Path, values: Mapping[str, Any]) -> params.Params:
    """Set keys as `train.lr` and return what the file says now; one that would not be valid stays as it was.

    Raises InvalidError `params` that lists every problem, UsageError for a key that leads through a value.
    """
    path = root / paths.PARAMS
    if not values:
        return params.load(path)
    text = _changed(path, values)
    found = params.loads(text, path)
    write_bytes(path, text.encode())
    return found


def check(root: Path, values: Mapping[str, Any]) -> None:
    """Raise as `apply` does, and change nothing."""
    path = root / paths.PARAMS
    params.loads(_changed(path, values), path)


def _changed(path: Path, values: Mapping[str, Any]) -> str:
    tree = yaml_text.read(path).tree
    for key, value in values.items():
        _put(tree, key, value)
    return _text(tree)


def _put(tree: CommentedMap, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    node: Any = tree
    for section in sections:
        node = node.setdefault(section, CommentedMap())
        if not isinstance(node, CommentedMap):
            raise UsageError("usage", f"{key!r} names no parameter: {section!r} is no section")
    if isinstance(old := node.get(name), CommentedMap) and not isinstance(value, Mapping):
        raise UsageError("usage", f"{key!r} is a section of {', '.join(old)}: name one of these")
    node[name] = value


def _text(tree: CommentedMap) -> str:
    class Representer(RoundTripRepresenter):  # type: ignore[misc]
        """Null is written out, as `mmpipe params` does."""

    Representer.add_representer(type(None), lambda to, _: to.represent_scalar(_NULL, "null"))
    yaml = YAML(typ="rt")
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 10_000
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
