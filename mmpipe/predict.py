"""Raw samples → predictions, from the bundle alone.

>>> predictor = load("models/fusion")  # doctest: +SKIP
>>> predictor.predict(image=Path("cat.png"), text="a cat").label  # doctest: +SKIP
'cat'
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmpipe import evaluate, metrics
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, SampleError, UsageError
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.preprocess import Features, Preprocessor, Refusal, Sample

__all__ = ["Prediction", "Predictor", "Refusal", "Sample", "load"]

BATCH_SIZE = 256
_FIXES = {
    "file-missing": "give the path of a file that is there",
    "file-not-regular": "give the path of a regular file",
    "file-too-large": "shrink the file",
    "file-empty": "restore the file from its source, or leave it out",
    "image-too-large": "scale the picture down",
    "audio-too-long": "cut the recording",
    "audio-truncated": "restore the file from its source",
    "text-too-long": "shorten the text",
    "row-empty": "give at least one of image, text and audio that is not empty",
}
"""For one sample, which stands in no manifest and under no parameters; other codes have the usual fix."""


@dataclass(frozen=True)
class Prediction:
    """`probabilities`: {label: calibrated}, in the bundle's order. `modalities`: those used, sorted."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    modalities: tuple[str, ...]


class Predictor:
    """A loaded bundle; `bundle` says where it comes from."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        settings = {m: bundle.preprocessing[m] for m in bundle.modalities}
        self.preprocessor = Preprocessor(settings, bundle.tokenizer)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the model takes, sorted."""
        return tuple(self.bundle.modalities)

    def predict(
        self,
        *,
        image: bytes | Path | None = None,
        text: str | None = None,
        audio: bytes | Path | None = None,
    ) -> Prediction:
        """Predict one sample from any of its modalities.

        Raises UsageError where nothing is given that the model takes, and for a file or text that cannot be
        used NotFoundError (`file-missing`) or InvalidError with the refusal's code.
        """
        sample = Sample(image, text, audio)
        given = [m for m in ("audio", "image", "text") if getattr(sample, m) is not None]
        if not set(given) & set(self.modalities):
            what = f"got {' and '.join(given) or 'nothing'}, the model takes {', '.join(self.modalities)}"
            raise UsageError("usage", what, fix=f"give at least one of {', '.join(self.modalities)}")
        [found] = self.predict_many([sample])
        if isinstance(found, Refusal):
            raise _error(found, sample)
        return found

    def predict_many(
        self, samples: Iterable[Sample], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction | Refusal]:
        """One answer a sample, in order; a bad sample gets a `Refusal`. Holds one batch in memory."""
        remaining = iter(samples)
        while some := list(islice(remaining, batch_size)):
            yield from self.answer([self.preprocessor.features(sample) for sample in some])

    def answer(self, features: Sequence[Features | Refusal]) -> list[Prediction | Refusal]:
        """The predictions from one batch of features, in order; refusals stay."""
        good = [one for one in features if not isinstance(one, Refusal)]
        chances = iter(metrics.softmax(self.logits(good), self.bundle.temperature) if good else ())
        return [
            one if isinstance(one, Refusal) else self._prediction(next(chances), tuple(sorted(one)))
            for one in features
        ]

    def features(self, sample: Sample) -> Features:
        """What the model takes of the sample. Raises SampleError with the refusal's code."""
        found = self.preprocessor.features(sample)
        if isinstance(found, Refusal):
            raise SampleError(found.code, found.what)
        return found

    def logits(self, features: Sequence[Features]) -> NDArray[np.float64]:
        """Uncalibrated (N, K) of N samples' features, by the code that `evaluate` runs."""
        arrays = {m: [one.get(m) for one in features] for m in self.modalities}
        dataset = self.bundle.dataset([str(n) for n in range(len(features))], arrays)
        everything = "+".join(self.modalities)
        found = evaluate.logits(self.bundle.model, dataset, [everything], batch_size=BATCH_SIZE)
        return found[everything]

    def _prediction(self, chances: NDArray[np.float64], modalities: tuple[str, ...]) -> Prediction:
        best = int(chances.argmax())
        named = dict(zip(self.bundle.labels, chances.tolist(), strict=True))
        return Prediction(self.bundle.labels[best], float(chances[best]), named, modalities)


def load(bundle: str | Path, *, device: str | None = None) -> Predictor:
    """Load the bundle in a folder, every hash verified. `device`: as torch names it; None = CUDA if there is.

    Raises NotFoundError, VerificationError or InvalidError as `load_bundle` does.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Predictor(load_bundle(Path(bundle), device=where))


def _error(refusal: Refusal, sample: Sample) -> MmpipeError:
    """The refusal of the only sample there is: its file or modality is named."""
    value = getattr(sample, refusal.modality) if refusal.modality else None
    where, what = refusal.modality or "", refusal.what
    if isinstance(value, Path):
        where, what = str(value), what.removeprefix(f"{value.name!r} ")
    kind = NotFoundError if refusal.code == "file-missing" else InvalidError
    return kind(refusal.code, what, where=where, fix=_FIXES.get(refusal.code))
