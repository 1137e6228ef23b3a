"""One modality's extractor: what a sample's bytes become, and how a table describes that.

Everything that the stored features of a sample depend on lies in this module, the modality's own module and
what they import; `features.extract` asks for the fingerprint of these.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from mmpipe import files
from mmpipe.errors import SampleError

EMBEDDING = "mmpipe.features.embedding"
CHUNK = 64
"""Samples whose raw inputs are in memory at once on their way to a backbone."""
Made = NDArray[Any] | SampleError
MAX_FILE_BYTES = 1 << 31
"""The most that `ingest.max_file_bytes` can be: what ingest accepted is not refused for its size here."""


@dataclass(frozen=True)
class Item:
    """Content by its hash, and where it is: a path relative to the workspace, or the text itself."""

    sha256: str
    source: str


@dataclass(frozen=True)
class Frozen:
    """A backbone that makes one vector of what an extractor makes: where its weights are, and which they are.

    `blueprint`: what `mmpipe.blueprint` says of it. `sha256`: of the weights.
    """

    source: str
    sha256: str
    blueprint: Mapping[str, Any]


@dataclass(frozen=True)
class Extractor:
    """A modality and the keyword arguments of its `extract` (text: of its `encode`)."""

    modality: str
    settings: dict[str, Any]
    frozen: Frozen | None = None

    @property
    def module(self) -> ModuleType:
        """`features.<modality>`, imported by name so that no modality's code counts for another's."""
        return importlib.import_module(f"mmpipe.features.{self.modality}")

    @property
    def facts(self) -> dict[str, str]:
        """What is needed to read its features and to make them again, sorted: name → JSON."""
        facts: dict[str, str] = self.module.facts(**self.settings)
        if self.frozen:
            facts = {
                "dtype": "float32",
                "shape": json.dumps([self.frozen.blueprint["width"]]),
                "base": json.dumps({key: _value(text) for key, text in sorted(facts.items())}),
                "blueprint": json.dumps(self.frozen.blueprint, sort_keys=True),
                "source": json.dumps(self.frozen.source),
                "weights_sha256": json.dumps(self.frozen.sha256),
            }
        return dict(sorted(facts.items()))

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest feature."""
        if self.frozen:
            return 4 * int(self.frozen.blueprint["width"])
        size: int = self.module.max_bytes(**self.settings)
        return size

    @property
    def modules(self) -> list[str]:
        """Where the code starts that its features depend on."""
        names = [__name__, self.module.__name__]
        if self.frozen is None:
            return names
        own = ["mmpipe.model.timm_net"] if self.frozen.blueprint["kind"] == "timm" else ["mmpipe.model.auto"]
        return [*names, EMBEDDING, *own]

    @property
    def depends_on(self) -> Any:
        """What its features depend on besides code and content, as JSON can hold it."""
        return [self.settings, self.frozen.sha256] if self.frozen else self.settings

    def compute(self, items: Sequence[Item], beat: Callable[[int], None]) -> list[bytes | SampleError]:
        """The feature's bytes of every item, or why there is none.

        Ingest has accepted these very bytes (their hash is compared), so its limits do not count again.
        """
        found: list[bytes | SampleError] = []
        for start in range(0, len(items), CHUNK if self.frozen else len(items) or 1):
            some = items[start : start + CHUNK] if self.frozen else items
            made = self._arrays(some, partial(_later, beat, start))
            if self.frozen:
                made = self._vectors(made, self.frozen)
            found += [one if isinstance(one, SampleError) else one.tobytes() for one in made]
        return found

    def _arrays(self, items: Sequence[Item], beat: Callable[[int], None]) -> list[Made]:
        if self.modality == "text":
            return list(self.module.encode([item.source for item in items], **self.settings))
        found: list[Made] = []
        for index, item in enumerate(items):
            beat(index)
            try:
                found.append(self.module.extract(_read(item), judged=True, **self.settings))
            except SampleError as error:
                found.append(error)
        return found

    def _vectors(self, made: Sequence[Made], frozen: Frozen) -> list[Made]:
        """The embedding's module is named, not imported: only who uses it depends on it, and loads torch."""
        embedding = importlib.import_module(EMBEDDING)
        net = embedding.backbone(frozen.blueprint, frozen.source, frozen.sha256)
        vectors = iter(embedding.vectors(net, [one for one in made if not isinstance(one, SampleError)]))
        return [one if isinstance(one, SampleError) else next(vectors) for one in made]


def _later(beat: Callable[[int], None], start: int, index: int) -> None:
    """The beat of a sample by its place among all."""
    beat(start + index)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _read(item: Item) -> bytes:
    """The file, if it is still what ingest saw."""
    data = files.read_guarded(Path(item.source), max_bytes=MAX_FILE_BYTES)
    if files.sha256(data) != item.sha256:
        raise SampleError("file-changed", f"{item.source!r} has changed since it was ingested")
    return data
