"""A section of `params.yaml`: a frozen pydantic model, its mistakes in words, its docstrings as comments."""

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mmpipe.yaml_text import Key


class Section(BaseModel):
    """Frozen; an unknown key is an error; `1` is accepted for a float, nothing else is converted."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def problems(root: type[Section], error: ValidationError) -> list[tuple[Key, str]]:
    """Every mistake: its key, and what is wrong in words that name the value and the nearest allowed name."""
    return [(item["loc"], _problem(root, item)) for item in error.errors()]


def comments(section: type[BaseModel], parent: Key = ()) -> dict[Key, str]:
    """Each key's docstring, on one line."""
    found: dict[Key, str] = {}
    for name, info in section.model_fields.items():
        inner = _section(info.annotation)
        words = info.description or (inner.__doc__ if inner else None) or ""
        found[(*parent, name)] = " ".join(words.split())
        found |= comments(inner, (*parent, name)) if inner else {}
    return found


def _problem(root: type[Section], item: Any) -> str:
    key = ".".join(map(str, item["loc"]))
    words = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "extra_forbidden":
        return f"{key}: no such key{_nearest(item['loc'][-1], _known(root, item['loc'][:-1]))}"
    if item["type"] == "literal_error":
        allowed = item["ctx"]["expected"].replace("'", " ").split()
        return f"{key}: {words}, not {item['input']!r}{_nearest(item['input'], allowed)}"
    if item["type"] == "model_type":
        return f"{key}: must be a section of keys, not {item['input']!r}"
    if item["type"] == "value_error":
        return f"{key}: {words}"
    return f"{key}: {words}, not {item['input']!r}"


def _nearest(word: object, allowed: list[str]) -> str:
    near = difflib.get_close_matches(str(word), allowed, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model behind an annotation; None for a plain value."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _known(root: type[BaseModel], location: Key) -> list[str]:
    """The keys that the section at `location` has."""
    section: type[BaseModel] | None = root
    for part in location:
        section = _section(section.model_fields[str(part)].annotation) if section else None
    return list(section.model_fields) if section else []
