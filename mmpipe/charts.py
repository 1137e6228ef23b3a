"""Numbers → SVG elements for an HTML page: same numbers, same bytes; colours follow the page's theme."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from mmpipe.metrics import Estimate, Reliability

INK, MUTED, LINE = "#010101", "#020202", "#030303"
SERIES = ("#050505", "#060606", "#070707", "#080808")
_THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    **{colour: f"var(--c{n})" for n, colour in enumerate(SERIES, 1)},
}
"""Stand-ins that matplotlib knows → the page's CSS variables."""

WIDE = 8.4
"""Inches at 96 px: the width of a chart with a row a name."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def stacked_bars(counts: Mapping[str, Sequence[int]], parts: Sequence[str], *, title: str) -> Markup:
    """One horizontal bar a key, made of `parts`; the first key on top."""
    with _style():
        figure, axes = _figure(WIDE, 0.9 + 0.24 * len(counts))
        left = np.zeros(len(counts))
        for part, colour, values in zip(parts, SERIES, np.array([*counts.values()]).T, strict=False):
            axes.barh(range(len(counts)), values, left=left, color=colour, height=0.72, label=part)
            left += values
        _rows(axes, list(counts))
        axes.legend(ncols=len(parts), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
        return _svg(figure, title)


def histogram(values: Sequence[float], *, xlabel: str, title: str, log: bool = False) -> Markup:
    """Counts of finite values in up to 24 bins; `log` for values over several decades."""
    with _style():
        figure, axes = _figure(3.6, 2.2)
        low, high = min(values), max(values)
        many = log and low > 0 and high > 10 * low
        edges = np.geomspace(low, high, 25) if many else np.linspace(low, high if high > low else low + 1, 25)
        axes.hist(values, bins=edges.tolist(), color=SERIES[0])
        if many:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(xlabel)
        axes.set_ylabel("samples")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")
        return _svg(figure, title)


def lines(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str) -> Markup:
    """One line a key: (steps, values). The key `val` has the second colour even alone."""
    with _style():
        figure, axes = _figure(3.6, 2.4)
        for number, (name, (steps, values)) in enumerate(series.items()):
            colour = SERIES[1 if name == "val" else number % len(SERIES)]
            axes.plot(steps, values, color=colour, label=name, linewidth=1.6)
        axes.set_xlabel("step")
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.grid()
        if list(series) != [title]:
            axes.legend(fontsize=8)
        return _svg(figure, f"{title} by step")


def heat_map(matrix: np.ndarray, labels: Sequence[str], *, title: str) -> Markup:
    """(classes, classes) counts, row = actual; the darker, the larger the share of its row."""
    with _style():
        size = max(3.0, 0.42 * len(labels)) + 1.3
        figure, axes = _figure(size, size)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        for row, column in np.argwhere(matrix).tolist():
            alpha = 0.06 + 0.54 * float(shares[row, column])  # pale enough for the digits in both themes
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(Rectangle(corner, 0.96, 0.96, color=SERIES[0], alpha=alpha, linewidth=0))
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=8)
        _rows(axes, labels)
        axes.set_xticks(range(len(labels)), [_short(label) for label in labels], rotation=45, ha="right")
        axes.set(xlim=(-0.5, len(labels) - 0.5), xlabel="predicted", ylabel="actual", aspect="equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        return _svg(figure, title)


def reliability(found: Mapping[str, Reliability], *, title: str) -> Markup:
    """Accuracy against confidence in bins, a line a key, with the diagonal of a calibrated model."""
    with _style():
        figure = Figure(figsize=(4.6, 4.6))
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="calibrated")
        for number, (name, bins) in enumerate(found.items()):
            some = bins.count > 0
            colour, marker = SERIES[number % len(SERIES)], "os^D"[number % 4]
            upper.plot(
                bins.confidence[some], bins.accuracy[some], color=colour, marker=marker, ms=4, label=name
            )
            edges = np.linspace(0, 1, len(bins.count) + 1)
            lower.stairs(bins.count, edges, color=colour, linewidth=1.4)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        lower.set(ylabel="samples", xlabel="confidence")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for axes in (upper, lower):
            axes.grid()
        upper.legend(loc="upper left", fontsize=8)
        return _svg(figure, title)


def scatter(x: Sequence[float], y: Sequence[float], *, xlabel: str, ylabel: str, title: str) -> Markup:
    """A point a sample, with the diagonal on which both are equal."""
    with _style():
        figure, axes = _figure(4.6, 4.6)
        low, high = min(*x, *y), max(*x, *y)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(x, y, linestyle="", marker="o", ms=3.5, alpha=0.55, color=SERIES[0])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid()
        return _svg(figure, title)


def intervals(estimates: Mapping[str, Estimate], *, xlabel: str, title: str) -> Markup:
    """One point with its 95 % interval a key; the first key on top."""
    with _style():
        figure, axes = _figure(WIDE, 0.9 + 0.3 * len(estimates))
        values = np.array([[e.value, e.low, e.high] for e in estimates.values()])
        places = np.arange(len(estimates))
        axes.hlines(places, values[:, 1], values[:, 2], color=SERIES[0], linewidth=2.4, alpha=0.55)
        axes.plot(values[:, 0], places, linestyle="", marker="o", ms=6, color=SERIES[0])
        _rows(axes, list(estimates))
        axes.set_xlabel(xlabel)
        return _svg(figure, title)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(_STYLE)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Labels down the left side, the first on top."""
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as an element: no prolog, no metadata, no ids but those it refers to, theme colours."""
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": f"mmpipe {title}"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the browser has the fonts
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r" font-family: [^;\"]*;", "", body)
    body = re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", body))
    body = re.sub(r"(fill|stroke): (#0[1-8]0[1-8]0[1-8])", lambda m: f"{m[1]}: {_THEME[m[2]]}", body)
    width, height = (round(float(side) * 96) for side in figure.get_size_inches())
    view = re.search(r'viewBox="[^"]*"', body)
    assert view is not None
    name = escape(title)
    head = f'<svg class="chart" role="img" aria-label="{name}" width="{width}" height="{height}" {view[0]}>'
    return Markup(head + body[body.index(">") + 1 :].strip())
