"""Raw samples → predictions, from the bundle alone.

>>> predictor = load("models/fusion")  # doctest: +SKIP
>>> predictor.predict(image=Path("cat.png"), text="a cat").label  # doctest: +SKIP
'cat'
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, make_dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch

from mmpipe import contribution, evaluate
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, SampleError, UsageError
from mmpipe.metrics import Floats
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.preprocess import Features, Preprocessor, Refusal, Sample
from mmpipe.registry import pull
from mmpipe.tasks.task import Prediction

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
    "row-lacks": "give the model what it cannot do without",
}
"""For one sample, which stands in no manifest and under no parameters; other codes have the usual fix."""


@dataclass(frozen=True, kw_only=True)
class Explanation(Prediction):
    """A prediction, and how far each modality moved what it says (see `contribution`).

    `baseline`, which is said with everything absent, and the `contributions` sum to what is said: the
    probability of the label, the number.
    """

    contributions: dict[str, float]
    baseline: float


class Predictor:
    """A loaded bundle; `bundle` says where it comes from, `name` is its tag or its folder's name."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        settings = {m: bundle.preprocessing[m] for m in bundle.modalities}
        self.preprocessor = Preprocessor(settings, bundle.tokenizer, needs=bundle.task.needs)

    def trusting(self) -> "Predictor":
        """The same model, for samples that ingest has accepted: limits of a sample do not count again."""
        found = copy(self)
        found.preprocessor = replace(self.preprocessor, judged=True)
        return found

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the model takes, sorted."""
        return tuple(self.bundle.modalities)

    @property
    def turns(self) -> int | None:
        """How many turns before the question it reads; None where its texts are no dialogues."""
        found: int | None = self.bundle.preprocessing.get("text", {}).get("turns")
        return found

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
        """Predict one sample and say what each of its modalities adds.

        Raises as `predict` does, and UsageError for a task whose answers are no sum.
        """
        [found] = self.explanations([self._one(Sample(image, text, audio))])
        if not isinstance(found, Explanation):
            what = f"a model that was trained to {self.bundle.task_name} has nothing to explain"
            raise UsageError("usage", what, fix="leave out --explain")
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
        outputs = self._outputs(features, self.bundle.task.asks(self.modalities))
        return [self.bundle.task.answer(**said) for said in self._said(outputs, features)]

    def explanations(self, features: Sequence[Features]) -> Sequence[Prediction]:
        """One explanation for each sample's features; plain predictions of a task that has none."""
        if not features:
            return []
        task = self.bundle.task
        if not task.explains:
            return self.answers(features)
        outputs = self._outputs(features, contribution.games(self.modalities))
        shares = contribution.shares(task.worth(outputs, self.bundle.decoding), features)
        everything = {"+".join(self.modalities): outputs["+".join(self.modalities)]}
        explained = _explained(task.answer)  # type: ignore[arg-type]  # classes are hashable
        return [
            explained(**said, contributions=share.contributions, baseline=share.baseline)
            for share, said in zip(shares, self._said(everything, features), strict=True)
        ]

    def features(self, sample: Sample) -> Features:
        """What the model takes of the sample. Raises SampleError with the refusal's code."""
        found = self.preprocessor.features(sample)
        if isinstance(found, Refusal):
            raise SampleError(found.code, found.what)
        return found

    def logits(self, features: Sequence[Features]) -> Floats:
        """Uncalibrated (N, K) of N samples' features, by the code that `evaluate` runs."""
        everything = "+".join(self.modalities)
        return self._outputs(features, [everything])[everything]

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

    def _outputs(self, features: Sequence[Features], subsets: Sequence[str]) -> dict[str, Floats]:
        """{subset: (N, K)}."""
        arrays = {m: [one.get(m) for one in features] for m in self.modalities}
        dataset = self.bundle.dataset([str(n) for n in range(len(features))], arrays)
        return evaluate.logits(self.bundle.model, dataset, subsets, batch_size=BATCH_SIZE)

    def _said(self, outputs: Mapping[str, Floats], features: Sequence[Features]) -> Iterator[dict[str, Any]]:
        """The arguments of each prediction."""
        given = [tuple(sorted(one)) for one in features]
        words = self.bundle.words([one.get("text") for one in features])
        said = self.bundle.task.says(outputs, given, self.bundle.decoding, words)
        for one, modalities in zip(said, given, strict=True):
            yield one | {
                "modalities": modalities,
                "model": self.name,
                "bundle_sha256": self.bundle.digest,
            }


@cache
def _explained(answer: type[Prediction]) -> type[Explanation]:
    """The class of a task's predictions that say what each modality adds."""
    found = make_dataclass(f"Explained{answer.__name__}", [], bases=(answer, Explanation), frozen=True)
    return cast(type[Explanation], found)


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
