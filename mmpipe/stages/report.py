"""One self-contained page about the data and the model."""

from pathlib import Path

from mmpipe import files, params, paths, report
from mmpipe.stages.process import run


def main() -> None:
    """Read what the other stages left, write the page."""
    chosen = params.load(paths.PARAMS).report
    page = report.render(report.read(Path()), examples=chosen.examples).encode()
    files.write_bytes(paths.REPORT, page)
    print(f"report: {paths.REPORT}, {len(page):,} bytes")  # noqa: T201


if __name__ == "__main__":
    run(main)
