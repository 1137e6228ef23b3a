"""What a run said and what came of it, in two files beside its worktree: for those who have no server."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmpipe.files import write_bytes
from mmpipe.retrain.outcome import Outcome

KEPT = 20
Tell = Callable[[str, str], object]


@dataclass(frozen=True)
class Journal:
    """`folder`: of the run's worktree; `<folder>.log` and `<folder>.json` outlive it."""

    folder: Path

    @contextmanager
    def written(self, tell: Tell) -> Iterator[Tell]:
        """Tell `tell`, and write `seconds step | line` to the log, each line at once."""
        started = time.monotonic()
        with self._path("log").open("a", encoding="utf-8", errors="replace", buffering=1) as file:

            def both(step: str, line: str) -> None:
                file.write(f"{time.monotonic() - started:8.1f} {step} | {line}\n")
                tell(step, line)

            yield both

    def keep(self, outcome: Outcome) -> None:
        """Write the outcome; of older runs, only the last are kept."""
        write_bytes(self._path("json"), json.dumps(outcome.as_json(), indent=2).encode())
        for suffix in ("log", "json"):
            there = [path for path in self.folder.parent.glob(f"*.{suffix}") if path.stem.isdigit()]
            for path in sorted(there, key=lambda path: int(path.stem))[:-KEPT]:
                path.unlink(missing_ok=True)

    def _path(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{suffix}")
