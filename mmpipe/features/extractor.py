"""One modality's extractor: what a sample's bytes become, and how a table describes that.

Everything that the stored features of a sample depend on lies in this module, the modality's own module and
what they import; `features.extract` asks for the fingerprint of these.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mmpipe import files
from mmpipe.errors import SampleError

MAX_FILE_BYTES = 1 << 31
"""The most that `ingest.max_file_bytes` can be: what ingest accepted is not refused for its size here."""


@dataclass(frozen=True)
class Item:
    """Content by its hash, and where it is: a path relative to the workspace, or the text itself."""

    sha256: str
    source: str


@dataclass(frozen=True)
class Extractor:
    """A modality and the keyword arguments of its `extract` (text: of its `encode`)."""

    modality: str
    settings: dict[str, Any]

    @property
    def module(self) -> ModuleType:
        """`features.<modality>`, imported by name so that no modality's code counts for another's."""
        return importlib.import_module(f"mmpipe.features.{self.modality}")

    @property
    def facts(self) -> dict[str, str]:
        """What is needed to read its features and to make them again, sorted: name → JSON."""
        facts: dict[str, str] = self.module.facts(**self.settings)
        return dict(sorted(facts.items()))

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest feature."""
        size: int = self.module.max_bytes(**self.settings)
        return size

    def compute(self, items: Sequence[Item], beat: Callable[[int], None]) -> list[bytes | SampleError]:
        """The feature's bytes of every item, or why there is none.

        Ingest has accepted these very bytes (their hash is compared), so its limits do not count again.
        """
        if self.modality == "text":
            return [ids.tobytes() for ids in self.module.encode([i.source for i in items], **self.settings)]
        found: list[bytes | SampleError] = []
        for index, item in enumerate(items):
            beat(index)
            try:
                found.append(self.module.extract(_read(item), judged=True, **self.settings).tobytes())
            except SampleError as error:
                found.append(error)
        return found


def _read(item: Item) -> bytes:
    """The file, if it is still what ingest saw."""
    data = files.read_guarded(Path(item.source), max_bytes=MAX_FILE_BYTES)
    if files.sha256(data) != item.sha256:
        raise SampleError("file-changed", f"{item.source!r} has changed since it was ingested")
    return data
