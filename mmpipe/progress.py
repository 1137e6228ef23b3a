"""Progress on stderr: bars for people, lines for a program that asks for them, else nothing."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int], object]
LINES = "MMPIPE_PROGRESS"
"""In the environment: `lines` asks for `description done/total`, a line every now and then."""
EVERY_S = 1.0


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Advance]:
    """A bar of `total` steps while the context lasts; calling what it yields moves it on by so many.

    `total`: None where nobody knows; the steps are counted then.
    """
    if total is not None and os.environ.get(LINES) == "lines" and not sys.stderr.isatty():
        yield _lines(description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)


def _lines(description: str, total: int) -> Advance:
    """At most a line a second, and the last one."""
    done, told = 0, 0.0

    def advance(steps: int) -> None:
        nonlocal done, told
        done += steps
        if done >= total or time.monotonic() - told >= EVERY_S:
            told = time.monotonic()
            print(f"{description} {done}/{total}", file=sys.stderr, flush=True)  # noqa: T201

    return advance
