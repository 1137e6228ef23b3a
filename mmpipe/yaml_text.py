"""YAML text to plain values whose lines and columns are known, and back with a comment at each key."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import (
    AliasToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
    TagToken,
)

from mmpipe.errors import InvalidError

MAX_BYTES = 100_000
MAX_DEPTH = 20
STARTS = (BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken)
ENDS = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
RESERVED = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
WIDTH = 110

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A file's values, and where each is written."""

    path: Path
    tree: CommentedMap

    def plain(self) -> dict[str, Any]:
        """Its values as dict, list, str, int, float, bool and None."""
        return {str(key): _plain(value) for key, value in self.tree.items()}

    def place(self, key: Key) -> tuple[int, int]:
        """1-based line and column of the deepest part of `key` that is written in the file."""
        node: Any = self.tree
        line, column = 0, 0
        for part in key:
            if isinstance(node, CommentedMap) and part in node:
                line, column = node.lc.key(part)
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line, column = node.lc.item(part)
            else:
                break
            node = node[part]
        return line + 1, column + 1


def read(path: Path) -> Document:
    """Read YAML 1.2. No aliases, no tags, no duplicate keys: nothing expands and nothing is built.

    Raises InvalidError (`params`) with file:line:col.
    """
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), path)


def parse(data: bytes, path: Path, *, max_bytes: int = MAX_BYTES) -> Document:
    """As `read`, of a file's bytes; `path` names it in errors."""
    try:
        if len(data) > max_bytes:
            raise InvalidError("params", f"is larger than {max_bytes:,} bytes", where=str(path))
        text = data.decode("utf-8-sig")
        _refuse_tricks(path, text)
        reader = YAML(typ="rt")
        reader.preserve_quotes = True
        tree = reader.load(text)
    except UnicodeDecodeError as error:
        raise InvalidError("params", f"is not UTF-8 at byte {error.start}", where=str(path)) from None
    except MarkedYAMLError as error:
        words = " ".join(" ".join(filter(None, [error.context, error.problem])).split())
        raise InvalidError("params", f"is no YAML: {words}", where=_where(path, error.problem_mark)) from None
    except (YAMLError, ValueError) as error:
        words = str(error).splitlines()[0]
        raise InvalidError("params", f"is no YAML: {words}", where=str(path)) from None
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise InvalidError("params", "must be a mapping of sections", where=f"{path}:1:1")
    return Document(path, tree)


def render(values: Mapping[str, Any], comments: Mapping[Key, str]) -> str:
    """Block YAML; a section's comment stands above it, a value's behind it or, where too long, above."""
    return "\n".join(_lines(values, comments, ())).strip() + "\n"


def scalar(value: Any) -> str:
    """One value, or a list of them, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(values: Mapping[str, Any], comments: Mapping[Key, str], parent: Key) -> Iterator[str]:
    indent = "  " * len(parent)
    for name, value in values.items():
        key = (*parent, name)
        comment = f"# {comments[key]}" if key in comments else ""
        if isinstance(value, Mapping):
            yield from ([""] if not parent else [])
            yield from ([indent + comment] if comment else [])
            yield f"{indent}{name}:"
            yield from _lines(value, comments, key)
            continue
        line = f"{indent}{name}: {scalar(value)}"
        together = f"{line}  {comment}".rstrip()
        yield from ([together] if len(together) <= WIDTH else [indent + comment, line])


def _refuse_tricks(path: Path, text: str) -> None:
    """Aliases, tags, and a depth that takes the scanner minutes."""
    depth = 0
    for token in YAML(typ="rt").scan(text):
        depth += isinstance(token, STARTS) - isinstance(token, ENDS)
        where = _where(path, token.start_mark)
        if isinstance(token, (AliasToken, TagToken)):
            kind = "an alias" if isinstance(token, AliasToken) else "a tag"
            raise InvalidError("params", f"has {kind}, which is not allowed", where=where)
        if depth > MAX_DEPTH:
            raise InvalidError("params", "is nested too deeply", where=where)


def _where(path: Path, mark: Any) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)


def _plain(node: Any) -> Any:
    """Ruamel's round-trip scalars are subclasses of str, int, float: strip them, for strict checks."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
