"""What an evaluation found, told without a page: tiles, tables and charts to draw, as plain JSON.

The stage `evaluate` writes them, so that the report and the card need to know of no task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Block = dict[str, Any]
MOST_EXHIBITS = 100
"""Of each kind: as many as `report.examples` may ask for."""


def tile(
    label: str, value: float, kind: str, *, low: float | None = None, high: float | None = None
) -> Block:
    """One figure with its 95 % interval, where it has one. `kind`: as in `shown`."""
    return {"label": label, "value": value, "kind": kind, "low": low, "high": high, "note": ""}


def table(caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> Block:
    """`columns`: (name, kind of its cells); a cell that is None is shown as none."""
    names, kinds = [name for name, _ in columns], [kind for _, kind in columns]
    return {"block": "table", "caption": caption, "columns": names, "kinds": kinds, "rows": list(rows)}


def chart(form: str, title: str, **data: Any) -> Block:
    """`form`: a function of `charts`; `data`: its arguments, as plain lists."""
    return {"block": "chart", "form": form, "title": title, "data": data}


def section(key: str, title: str, text: str, blocks: Sequence[Block]) -> Block:
    """A part of the page; `text`: a paragraph, which may be empty."""
    return {"key": key, "title": title, "text": text, "blocks": list(blocks)}


def exhibit(name: str, said: str, note: str, actual: str | None) -> Block:
    """A sample to look at: what was said of it, how surely, and what is true where that is another."""
    return {"id": name, "said": said, "note": note, "actual": actual}


def shown(value: Any, kind: str, *, percent: bool) -> str:
    """A cell in words. `kind`: words, count, number, signed, share, or a range: numbers, shares.

    `percent`: whether shares are told in percent, else as they are.
    """
    if value is None:
        return "–"
    if kind == "words":
        return str(value)
    if kind == "count":
        return f"{value:,}"
    if kind == "signed":
        return signed(value)
    if kind == "share":
        return f"{100 * value:.1f} %" if percent else f"{value:.3f}"
    if kind == "shares" and percent:
        return f"{100 * value[0]:.1f} – {100 * value[1]:.1f} %"
    if kind in ("numbers", "shares"):
        return f"{figure(value[0])} – {figure(value[1])}"
    return figure(value)


def figure(value: float) -> str:
    """Three decimals, or four digits of large numbers."""
    return f"{value:.3f}" if abs(value) < 1_000 else f"{value:,.4g}"


def signed(value: float) -> str:
    """The same with a plus or minus."""
    return f"{value:+.3f}" if abs(value) < 1_000 else f"{value:+,.4g}"


def interval(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`low` and `high` of a figure of `metrics/evaluate.json`, for `tile`."""
    return {"low": found.get(f"{name}_low"), "high": found.get(f"{name}_high")}
