"""Progress bars on stderr, for people: none where stderr is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int], object]


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Advance]:
    """A bar of `total` steps while the context lasts; calling what it yields moves it on by so many.

    `total`: None where nobody knows; the steps are counted then.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
