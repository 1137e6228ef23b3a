"""Raw samples → predictions, from the bundle alone.

>>> predictor = load("models/fusion")  # doctest: +SKIP
>>> predictor.predict(image=Path("cat.png"), text="a cat").label  # doctest: +SKIP
'cat'
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmpipe import contribution, evaluate, metrics
from mmpipe.batches import Dataset
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, SampleError, UsageError
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.preprocess import Features, Preprocessor, Refusal, Sample
from mmpipe.registry import pull

__all__ = ["Explanation", "Prediction", "Predictor", "Refusal", "Sample", "load"]

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
    """`probabilities`: {label: calibrated}, in the bundle's order. `modalities`: those used, sorted.

    `model` is the tag or the folder's name, `bundle_sha256` the digest of the bundle that said so.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    modalities: tuple[str, ...]
    model: str
    bundle_sha256: str


@dataclass(frozen=True)
class Explanation(Prediction):
    """A prediction, and how far each modality moved its label's probability (see `contribution`).

    `baseline`, the probability with everything absent, and the `contributions` sum to `confidence`.
    """

    contributions: dict[str, float]
    baseline: float


class Predictor:
    """A loaded bundle; `bundle` says where it comes from, `name` is its tag or its folder's name."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        settings = {m: bundle.preprocessing[m] for m in bundle.modalities}
        self.preprocessor = Preprocessor(settings, bundle.tokenizer)

    def trusting(self) -> "Predictor":
        """The same model, for samples that ingest has accepted: limits of a sample do not count again."""
        found = copy(self)
        found.preprocessor = replace(self.preprocessor, judged=True)
        return found

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
        [found] = self.answers([self._one(Sample(image, text, audio))])
        return found

    def explain(
        self,
        *,
        image: bytes | Path | None = None,
        text: str | None = None,
        audio: bytes | Path | None = None,
    ) -> Explanation:
        """Predict one sample and say what each of its modalities adds. Raises as `predict` does."""
        [found] = self.explanations([self._one(Sample(image, text, audio))])
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
        answers = iter(self.answers([one for one in features if not isinstance(one, Refusal)]))
        return [one if isinstance(one, Refusal) else next(answers) for one in features]

    def answers(self, features: Sequence[Features]) -> list[Prediction]:
        """One prediction for each sample's features."""
        if not features:
            return []
        chances = metrics.softmax(self.logits(features), self.bundle.temperature)
        return [Prediction(**self._said(row, one)) for row, one in zip(chances, features, strict=True)]

    def explanations(self, features: Sequence[Features]) -> list[Explanation]:
        """One explanation for each sample's features."""
        if not features:
            return []
        found = contribution.shares(self.bundle, self._dataset(features), batch_size=BATCH_SIZE)
        return [
            Explanation(
                **self._said(share.probabilities, one),
                contributions=share.contributions,
                baseline=share.baseline,
            )
            for share, one in zip(found, features, strict=True)
        ]

    def features(self, sample: Sample) -> Features:
        """What the model takes of the sample. Raises SampleError with the refusal's code."""
        found = self.preprocessor.features(sample)
        if isinstance(found, Refusal):
            raise SampleError(found.code, found.what)
        return found

    def logits(self, features: Sequence[Features]) -> NDArray[np.float64]:
        """Uncalibrated (N, K) of N samples' features, by the code that `evaluate` runs."""
        everything, dataset = "+".join(self.modalities), self._dataset(features)
        return evaluate.logits(self.bundle.model, dataset, [everything], batch_size=BATCH_SIZE)[everything]

    def _one(self, sample: Sample) -> Features:
        """The features of the only sample there is; what is wrong with it ends the call."""
        given = [m for m in ("audio", "image", "text") if getattr(sample, m) is not None]
        if not set(given) & set(self.modalities):
            what = f"got {' and '.join(given) or 'nothing'}, the model takes {', '.join(self.modalities)}"
            raise UsageError("usage", what, fix=f"give at least one of {', '.join(self.modalities)}")
        found = self.preprocessor.features(sample)
        if isinstance(found, Refusal):
            raise _error(found, sample)
        return found

    def _dataset(self, features: Sequence[Features]) -> Dataset:
        arrays = {m: [one.get(m) for one in features] for m in self.modalities}
        return self.bundle.dataset([str(n) for n in range(len(features))], arrays)

    def _said(self, chances: NDArray[np.float64], features: Mapping[str, object]) -> dict[str, Any]:
        """The arguments of a `Prediction`."""
        best = int(chances.argmax())
        return {
            "label": self.bundle.labels[best],
            "confidence": float(chances[best]),
            "probabilities": dict(zip(self.bundle.labels, chances.tolist(), strict=True)),
            "modalities": tuple(sorted(features)),
            "model": self.name,
            "bundle_sha256": self.bundle.digest,
        }


def load(
    model: str | Path, *, source: str | None = None, device: str | None = None, name: str | None = None
) -> Predictor:
    """Load a bundle, every hash verified: a folder, or a published version such as `fusion#prod`.

    `source`: the repository that publishes it, a folder or a URL; None = that of the current folder.
    `device`: as torch names it; None = CUDA if there is. `name`: what predictions call the model; None = its
    tag, or else the folder's name. Raises NotFoundError, VerificationError or InvalidError as `load_bundle`
    and, for a tag, `registry.pull.pull` do.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = pull.resolve_folder(str(model), source)
    bundle = load_bundle(folder, device=where)
    tag = bundle.origin.tag if bundle.origin else folder.resolve().name
    return Predictor(bundle, name or tag)


def _error(refusal: Refusal, sample: Sample) -> MmpipeError:
    """The refusal of the only sample there is: its file or modality is named."""
    value = getattr(sample, refusal.modality) if refusal.modality else None
    where, what = refusal.modality or "", refusal.what
    if isinstance(value, Path):
        where, what = str(value), what.removeprefix(f"{value.name!r} ")
    kind = NotFoundError if refusal.code == "file-missing" else InvalidError
    return kind(refusal.code, what, where=where, fix=_FIXES.get(refusal.code))
