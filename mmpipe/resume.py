"""The state of an unfinished training: one safetensors file a state, named by its own hash."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from mmpipe import files

KEPT = 2
KEPT_RUNS = 3
_NAME = re.compile(r"state-(\d{8})-([0-9a-f]{64})\.safetensors")


class States:
    """The newest states of one run, in one folder. `key` names all of the run's inputs."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def inner(self, name: str) -> "States":
        """The states of a part of the run, below its own; they go when the run's go."""
        return States(self.folder / name, f"{self.key}/{name}")

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> Path:
        """Write a state, atomically; only the newest two are kept."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        data = safetensors.torch.save(
            contiguous, {"progress": json.dumps({**progress, "key": self.key}, sort_keys=True)}
        )
        serial = max((serial for serial, _, _ in self._found()), default=0) + 1
        path = self.folder / f"state-{serial:08d}-{files.sha256(data)}.safetensors"
        files.write_bytes(path, data)
        for _, _, old in self._found()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest good state, or None. A damaged or foreign one is told on stderr and passed over."""
        for _, digest, path in self._found():
            data = path.read_bytes()
            if files.sha256(data) != digest:
                _tell(path, "is damaged")
                continue
            try:
                tensors = safetensors.torch.load(data)
                progress = _progress(data)
            except (safetensors.SafetensorError, ValueError, KeyError):
                _tell(path, "is no training state")
                continue
            if progress.pop("key", None) == self.key:
                return tensors, progress
            _tell(path, "belongs to another run")
        return None

    def clear(self) -> None:
        """The training is finished: its states are of no more use."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[tuple[int, str, Path]]:
        """Serial, digest and path of each state, newest first."""
        return sorted(self._named(), reverse=True)

    def _named(self) -> Iterator[tuple[int, str, Path]]:
        for path in self.folder.glob("state-*.safetensors"):
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), match[2], path


def keep_newest(folder: Path, current: str) -> None:
    """Of the runs' folders below `folder`, keep that of `current` and the latest others, 3 in all."""
    others = [path for path in folder.glob("*") if path.is_dir() and path.name != current]
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT_RUNS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _progress(data: bytes) -> dict[str, Any]:
    """From the file's own header: a little-endian u64 length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    progress: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["progress"])
    return progress


def _tell(path: Path, what: str) -> None:
    print(f"training state {path.name} {what}: going back to the one before", file=sys.stderr)  # noqa: T201
