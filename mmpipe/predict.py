"""Raw samples → predictions, from the bundle alone.

>>> predictor = load("models/fusion")  # doctest: +SKIP
>>> predictor.predict(image=Path("cat.png"), text="a cat").label  # doctest: +SKIP
'cat'
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmpipe import contribution, evaluate, files, metrics
from mmpipe.batches import Dataset
from mmpipe.errors import InvalidError, SampleError, UsageError
from mmpipe.features import audio, image, text
from mmpipe.media.text import check
from mmpipe.model.checkpoint import Bundle, load_bundle

MAX_BYTES = 100_000_000
BATCH_SIZE = 256


@dataclass(frozen=True)
class Sample:
    """One raw sample: any of picture and recording (a file or its bytes) and text; None = absent."""

    image: bytes | Path | None = None
    text: str | None = None
    audio: bytes | Path | None = None


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


@dataclass(frozen=True)
class Refusal:
    """Why a sample has no prediction; `code` is a key of `errors.FIXES`."""

    code: str
    what: str


class Predictor:
    """A loaded bundle; `bundle` says where it comes from, `name` is its tag or its folder's name."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        self._extract = _extractors(bundle)

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

        Raises UsageError where nothing is given that the model takes, and InvalidError with the refusal's
        code for a file or text that cannot be used.
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
            yield from self._batch(some)

    def logits(self, features: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float64]:
        """Uncalibrated (N, K) of N samples' features, by the code that `evaluate` runs."""
        everything = "+".join(self.modalities)
        found = evaluate.logits(
            self.bundle.model, self._dataset(features), [everything], batch_size=BATCH_SIZE
        )
        return found[everything]

    def answers(self, features: Sequence[Mapping[str, NDArray[Any]]]) -> list[Prediction]:
        """One prediction for each sample's features, as `features` gives them."""
        if not features:
            return []
        chances = metrics.softmax(self.logits(features), self.bundle.temperature)
        return [Prediction(**self._said(row, one)) for row, one in zip(chances, features, strict=True)]

    def explanations(self, features: Sequence[Mapping[str, NDArray[Any]]]) -> list[Explanation]:
        """One explanation for each sample's features, as `features` gives them."""
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

    def extract(self, modality: str, value: Any) -> NDArray[Any]:
        """The feature of a file, its bytes or a text; of length 0 for blank text. Raises SampleError."""
        return self._extract[modality](value)

    def features(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """{modality: its feature}, for those that the sample has and the model takes.

        Raises SampleError with the code of what is wrong; `row-empty` where nothing is left.
        """
        given = {m: getattr(sample, m) for m in self.modalities}
        return self.usable({m: self.extract(m, value) for m, value in given.items() if value is not None})

    def usable(self, features: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Those that hold anything. Raises SampleError `row-empty` where none does."""
        some = {m: feature for m, feature in features.items() if len(feature)}
        if not some:
            raise SampleError("row-empty", f"has none of {', '.join(self.modalities)}")
        return some

    def _one(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """The features of one sample; what is wrong with it as an error of the whole call."""
        given = [m for m in ("audio", "image", "text") if getattr(sample, m) is not None]
        if not set(given) & set(self.modalities):
            what = f"got {' and '.join(given) or 'nothing'}, the model takes {', '.join(self.modalities)}"
            raise UsageError("usage", what, fix=f"give at least one of {', '.join(self.modalities)}")
        try:
            return self.features(sample)
        except SampleError as error:
            raise InvalidError(error.code, error.what) from None

    def _dataset(self, features: Sequence[Mapping[str, NDArray[Any]]]) -> Dataset:
        arrays = {m: [one.get(m) for one in features] for m in self.modalities}
        return self.bundle.dataset([str(n) for n in range(len(features))], arrays)

    def _batch(self, samples: Sequence[Sample]) -> list[Prediction | Refusal]:
        features = [self._features_or_refusal(sample) for sample in samples]
        answers = iter(self.answers([one for one in features if not isinstance(one, Refusal)]))
        return [one if isinstance(one, Refusal) else next(answers) for one in features]

    def _features_or_refusal(self, sample: Sample) -> dict[str, NDArray[Any]] | Refusal:
        try:
            return self.features(sample)
        except SampleError as error:
            return Refusal(error.code, error.what)

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


def load(bundle: str | Path, *, device: str | None = None, name: str | None = None) -> Predictor:
    """Load the bundle in a folder, every hash verified. `device`: as torch names it; None = CUDA if there is.

    `name` is what predictions call the model: its tag, or else the folder's name.
    Raises NotFoundError, VerificationError or InvalidError as `load_bundle` does.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = Path(bundle)
    return Predictor(load_bundle(folder, device=where), name or folder.resolve().name)


def _extractors(bundle: Bundle) -> dict[str, Callable[[Any], NDArray[Any]]]:
    """{modality: what one sample's raw value becomes}, with the settings that the model was trained with."""
    settings = bundle.preprocessing
    found: dict[str, Callable[[Any], NDArray[Any]]] = {}
    if "audio" in settings:
        found["audio"] = lambda value: audio.extract(_data(value), **settings["audio"])
    if "image" in settings:
        found["image"] = lambda value: image.extract(_data(value), **settings["image"])
    if "text" in settings:
        assert bundle.tokenizer is not None
        limit = settings["text"]["max_tokens"]
        found["text"] = partial(_tokens, tokenizer=bundle.tokenizer, max_tokens=limit)
    return found


def _tokens(value: str, *, tokenizer: str, max_tokens: int) -> NDArray[np.int32]:
    words = check(value) if value.strip() else ""  # white space alone is no text
    return text.encode([words], tokenizer, max_tokens=max_tokens)[0]


def _data(value: bytes | Path) -> bytes:
    return value if isinstance(value, bytes) else files.read_guarded(value, max_bytes=MAX_BYTES)
