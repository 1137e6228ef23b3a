"""One self-contained page about the data and the model."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from mmpipe import files, heat, params, paths, report
from mmpipe.stages.process import run

SALIENCY = "mmpipe.saliency"
"""Named, not imported: it loads the network, and a page without it depends on none."""


def main() -> None:
    """Read what the other stages left, write the page."""
    chosen = params.load(paths.PARAMS).report
    inputs = report.read(Path())
    shown = _saliency(report.first(inputs, chosen.saliency))
    page = report.render(inputs, examples=chosen.examples, saliency=shown).encode()
    files.write_bytes(paths.REPORT, page)
    print(f"report: {paths.REPORT}, {len(page):,} bytes")  # noqa: T201


def _saliency(ids: Sequence[str]) -> list[heat.Shown]:
    found: list[heat.Shown] = []
    if ids:
        found = importlib.import_module(SALIENCY).of_test_samples(Path(), paths.BUNDLE, ids)
    return found


if __name__ == "__main__":
    run(main)
