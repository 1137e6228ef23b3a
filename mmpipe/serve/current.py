"""The model that answers now, and the one that takes its place when the source moves."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmpipe import files
from mmpipe.bundle import MANIFEST
from mmpipe.errors import MmpipeError
from mmpipe.predict import Predictor
from mmpipe.terminal import printable

Resolve = Callable[[], tuple[Path, str]]
"""Where the bundle lies at this moment, and what it is called (a tag or the folder's name)."""
Load = Callable[[Path, str], Predictor]
MAX_PAUSE_S = 60.0


class Current:
    """`predictor` is replaced by one assignment: whoever took it keeps it to the end of a request.

    `problem`: code and words of why a newer model could not be loaded; the older one answers on.
    """

    def __init__(self, resolve: Resolve, load: Load) -> None:
        self._resolve = resolve
        self._load = load
        self._known: tuple[str, str] | None = None
        self._failures = 0
        self.predictor: Predictor | None = None
        self.problem: tuple[str, str] | None = None
        self.changed: Callable[[str], object] = lambda _: None
        """Told `ok` when another model has taken over, and `failed` when it could not."""

    def start(self) -> Predictor:
        """Load the first model. Raises what resolving and loading raise."""
        predictor, self._known = self._newer() or (self.predictor, self._known)
        assert predictor is not None
        self.predictor = predictor
        return predictor

    async def watch(self, poll_s: float) -> None:
        """Look for ever; after failures less and less often, up to a minute apart."""
        while True:
            await asyncio.sleep(min(MAX_PAUSE_S, poll_s * 2**self._failures))
            await self.look()

    async def look(self) -> None:
        """Load what is newer beside what answers, then swap. No failure gets out."""
        work = asyncio.ensure_future(asyncio.to_thread(self._newer))
        await asyncio.wait([work])
        error = work.exception()
        if error is not None:
            self._fail(error)
        elif (newer := work.result()) is not None:
            self.predictor, self._known = newer
            self._settle()
            self.changed("ok")
            _say(f"model {self.predictor.name} ({self.predictor.bundle.digest[:12]}) answers from now on")
        else:
            self._settle()

    def _newer(self) -> tuple[Predictor, tuple[str, str]] | None:
        """In a thread: a model that is another than the known one, loaded and tried."""
        folder, name = self._resolve()
        manifest = folder / MANIFEST
        seen = name, files.sha256(manifest.read_bytes()) if manifest.is_file() else ""
        if seen == self._known:
            return None
        predictor = self._load(folder, name)
        predictor.explanations([blank(predictor)])
        return predictor, seen

    def _settle(self) -> None:
        self.problem, self._failures = None, 0

    def _fail(self, error: BaseException) -> None:
        before = self.problem
        if isinstance(error, MmpipeError):
            self.problem = error.code, f"{error.where} {error.what}".strip()
        elif isinstance(error, OSError):
            self.problem = "system", f"{error.filename or ''} {error.strerror}".strip()
        else:
            self.problem = "internal", f"{type(error).__name__}: {error}"
        self._failures += 1
        self.changed("failed")
        if self.problem != before:
            _say(f"{': '.join(self.problem)} — the model that was loaded answers on")


def blank(predictor: Predictor) -> dict[str, np.ndarray]:
    """Features of a sample that says nothing, to try a model with: it must at least compute."""
    found = {}
    for modality in predictor.modalities:
        facts = predictor.bundle.features[modality]
        wave = facts.get("kind") in ("pcm", "wave")
        least = int(facts["n_fft"]) if wave else 2  # a wave is of one window at least
        found[modality] = np.ones([size if size > 0 else least for size in facts["shape"]], facts["dtype"])
    return found


def _say(words: str) -> None:
    print(printable(words), file=sys.stderr, flush=True)  # noqa: T201
