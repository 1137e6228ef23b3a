"""The model card: a bundle's README.md, in Hugging Face's format with a model-index."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import jinja2

from mmpipe import findings

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a card is made of: the JSON of config and of each stage's metrics, and the size of the weights.

    `findings`: what the evaluation tells of its task. `loads`: time and memory by batch size on this machine,
    where that is asked for (`complexity.Load`).
    """

    name: str
    corpus: str
    config: Tree
    test: Tree
    findings: Tree
    train: Tree
    rows: Tree
    split: Tree
    size: int
    loads: Sequence[Any] = ()


def render(facts: Facts) -> str:
    """Markdown with a YAML head; the same facts give the same text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  markdown: what strangers wrote goes through `_plain`
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = partial(findings.shown, percent=False)
    text = (resources.files("mmpipe") / "templates/card.md.j2").read_text("utf-8")
    return environment.from_string(text).render(
        vars(facts),
        modalities=sorted(facts.config["architecture"]["modalities"]),
        told=facts.findings,
        sections=[_section(part) for part in facts.findings["sections"]],
    )


def _section(part: Tree) -> dict[str, Any]:
    """Its words and tables; charts are the report's."""
    tables = [_table(block) for block in part["blocks"] if block["block"] == "table" and block["rows"]]
    return {"title": part["title"], "text": _plain(part["text"]), "tables": tables}


def _table(block: Tree) -> dict[str, Any]:
    rows = [
        [
            _plain(findings.shown(cell, kind, percent=False))
            for cell, kind in zip(row, block["kinds"], strict=True)
        ]
        for row in block["rows"]
    ]
    return {"caption": block["caption"], "columns": [_plain(name) for name in block["columns"]], "rows": rows}


def _plain(words: str) -> str:
    """Words of strangers, with nothing in them that Markdown, HTML or a table would read."""
    return re.sub(r"[\\`*_{}\[\]<>|#&!~]", lambda match: f"&#{ord(match[0])};", " ".join(words.split()))
