"""New samples and imports that no retraining saw: what one is started for, and never twice for the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmpipe import paths
from mmpipe.files import write_json

if TYPE_CHECKING:
    from mmpipe.row import Row

STATE = paths.PRIVATE / "watch.json"
CRASHES = 3
"""A retraining that crashes so often on the same data is not started for them any more."""
End = Literal["done", "failed", "crashed", "skipped"]
"""Of a retraining; `failed`: also one that was cancelled, `crashed`: also one that nobody knows any more."""


@dataclass(frozen=True)
class Import:
    """An import whose source is not as its `.dvc` file records it.

    `state`: commit or hash of the source. `files`: how many are new, gone or others there; of a folder that
    is imported by its URL, or from a repository with a DVC remote of the import's own, at least so many.
    """

    name: str
    state: str
    files: int

    @property
    def key(self) -> str:
        """Another text for another state."""
        return f"{self.name} {self.state}"


@dataclass(frozen=True)
class State:
    """`seen`: what a retraining took or failed on. `pending`: what `run` was started for, "" where none is in
    progress. `started`: how often one was; `crashes`: how often in a row on the same data.
    """

    seen: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    run: str = ""
    started: int = 0
    crashes: int = 0

    def settled(self, end: End) -> "State":
        """After the run has ended: what it took is seen; what it could not look at is started for again."""
        crashes = self.crashes + 1 if end == "crashed" else 0
        over = end in ("done", "failed") or crashes == CRASHES
        return replace(
            self,
            seen=self.pending if over else self.seen,
            pending=frozenset(),
            run="",
            crashes=0 if over else crashes,
        )

    def begun(self, run: str, there: frozenset[str]) -> "State":
        """After a run was started for all that is there."""
        return replace(self, run=run, pending=there, started=self.started + 1)

    def key(self, there: frozenset[str]) -> str:
        """Equal for two that would start a run for the same: the server makes one of them."""
        return hashlib.sha256(json.dumps([self.started, sorted(there)]).encode()).hexdigest()


@dataclass(frozen=True)
class Found:
    """A look at the landing folder and at the imports' sources; `samples`: a short hash each."""

    samples: frozenset[str] = frozenset()
    imports: Sequence[Import] = field(default=())

    @property
    def all(self) -> frozenset[str]:
        """What is there, each by a text that is another when it is another."""
        return self.samples | {one.key for one in self.imports}

    def news(self, state: State) -> tuple[int, int]:
        """How many samples, and files of imports, no retraining has seen."""
        files = sum(one.files for one in self.imports if one.key not in state.seen)
        return len(self.samples - state.seen), files


def samples(folder: Path, columns: Mapping[str, str | None]) -> frozenset[str]:
    """A short hash for each sample of a landing folder: its cells, and its files' sizes and times.

    No sample's content is read. Raises as `manifest.read` does.
    """
    from mmpipe import manifest
    from mmpipe.row import Row

    if not folder.is_dir():
        return frozenset()
    rows = manifest.read_all(folder, columns)
    return frozenset(_signature(row) for row in rows if isinstance(row, Row))


def read(root: Path) -> State:
    """What the last look left; nothing before the first."""
    path = root / STATE
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    found |= {name: frozenset(found[name]) for name in ("seen", "pending") if name in found}
    return State(**found)


def write(root: Path, state: State) -> None:
    """Keep it for the next look."""
    plain = {name: sorted(v) if isinstance(v, frozenset) else v for name, v in vars(state).items()}
    write_json(root / STATE, plain)


def _signature(row: "Row") -> str:
    cells = [row.image, row.audio, row.text_path, row.text, row.target, row.group, row.split]
    stamps = [_stamp(row.folder / name) for name in cells[:3] if name]
    return hashlib.sha256(json.dumps([cells, stamps]).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
