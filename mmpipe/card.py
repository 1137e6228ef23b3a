"""The model card: a bundle's README.md, in Hugging Face's format with a model-index."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from mmpipe.scorecard import verdict

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a card is made of: the JSON of config and of each stage's metrics, and the size of the weights."""

    name: str
    corpus: str
    config: Tree
    test: Tree
    train: Tree
    rows: Tree
    split: Tree
    size: int


def render(facts: Facts) -> str:
    """Markdown with a YAML head; the same facts give the same text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  markdown: what strangers wrote goes through `_plain`
        keep_trailing_newline=True,
    )
    text = (resources.files("mmpipe") / "templates/card.md.j2").read_text("utf-8")
    return environment.from_string(text).render(
        vars(facts),
        modalities=sorted(facts.config["architecture"]["modalities"]),
        subsets=[_subset(name, one) for name, one in _by_accuracy(facts.test["subsets"])],
        classes=[_class(row) for row in facts.test["per_class"]],
        contribution=_contribution(facts.test),
        verdict=_capital(verdict(dict(facts.test))),
    )


def _by_accuracy(subsets: Tree) -> list[tuple[str, Tree]]:
    scored = [(name, one) for name, one in subsets.items() if one["samples"]]
    return sorted(scored, key=lambda pair: (-pair[1]["accuracy"], pair[0]))


def _subset(name: str, one: Tree) -> dict[str, Any]:
    return {
        "name": " + ".join(name.split("+")),
        "samples": one["samples"],
        **{key: f"{one[key]:.3f}" for key in ("accuracy", "macro_f1")},
        **{key: "{:.3f} – {:.3f}".format(*one[key]) for key in ("accuracy_95", "macro_f1_95")},
    }


def _class(row: Tree) -> dict[str, Any]:
    figures = {key: f"{row[key]:.3f}" for key in ("precision", "recall", "f1")}
    return {"label": _plain(row["label"]), "support": row["support"], **figures}


def _contribution(test: Tree) -> list[dict[str, str]]:
    """A row a modality of a model that has several."""
    full = max(test["subsets"], key=lambda name: name.count("+"))
    rows = []
    for hidden in full.split("+") if "+" in full else []:
        rest = test["subsets"]["+".join(m for m in full.split("+") if m != hidden)]
        if rest["samples"]:
            lost = test["accuracy"] - rest["accuracy"]
            rows.append({"name": hidden, "without": f"{rest['accuracy']:.3f}", "lost": f"{lost:+.3f}"})
    return rows


def _plain(words: str) -> str:
    """Words of strangers, with nothing in them that Markdown, HTML or a table would read."""
    return re.sub(r"[\\`*_{}\[\]<>|#&!~]", lambda match: f"&#{ord(match[0])};", " ".join(words.split()))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
