"""Where in its modalities an answer comes from: integrated gradients of its output, by Captum.

Sundararajan et al. 2017: the gradient of the output, averaged on the straight way from a baseline that says
nothing to the sample, times what lies between them. All of it sums to the output less that of the baseline:
a white picture, silence or the mean spectrogram of training, token vectors of zeros. A modality that the
sample lacks has no share.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from mmpipe import heat, testset, trial
from mmpipe.batches import Batch
from mmpipe.errors import NotFoundError, UsageError
from mmpipe.model import waves
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.model.encoders import WHITE, FineTuned, Vector
from mmpipe.predict import Predictor
from mmpipe.preprocess import Features, Refusal
from mmpipe.tasks.task import Output

STEPS, AT_ONCE = 64, 16
"""Points on the way from the baseline, and how many of them go through the network together."""


@dataclass(frozen=True)
class Saliency:
    """`maps`: {modality: what each part adds}: image (H, W), audio (T, M) or (samples,), text (T,).

    `score`: the output of the answer, a logit or the standardised number; `baseline`: that of the baseline.
    """

    maps: dict[str, NDArray[np.float64]]
    score: float
    baseline: float

    @property
    def gap(self) -> float:
        """What the maps' sum lacks: an error of the average over finitely many points."""
        return self.score - self.baseline - sum(float(values.sum()) for values in self.maps.values())


def attribute(bundle: Bundle, features: Features) -> Saliency:
    """Of one sample's features and the likeliest answer; the bundle is on the CPU.

    Raises UsageError for a task whose answers are no single number, NotFoundError `library-missing` without
    Captum.
    """
    if not bundle.task.explains:
        what = f"a model that was trained to {bundle.task_name} has no single number to explain"
        raise UsageError("usage", what, fix="leave out saliency")
    names, way = sorted(features), _Way(bundle, features)
    parts = {m: way.part(m, features[m]) for m in names}
    with _replaced(way, names):
        points, bases = ([part[place] for part in parts.values()] for place in (0, 1))
        with torch.no_grad():
            outputs = way.logits(points)
            k = 0 if bundle.task.kind == "number" else int(outputs[0].argmax())
            score, baseline = float(outputs[0, k]), float(way.logits(bases)[0, k])
        found = _integrated(lambda *given: way.logits(given)[:, k], points, bases)
    maps = {m: _summed(m, values[0].double().numpy()) for m, values in zip(names, found, strict=True)}
    return Saliency(maps, score, baseline)


def of_test_samples(root: Path, folder: Path, ids: Sequence[str]) -> list[heat.Shown]:
    """Saliency of some test samples of the workspace at `root`, by the bundle at `folder`, to be drawn.

    Samples that the model takes nothing of are left out. Raises as `attribute` and `trial.raw` do.
    """
    predictor = Predictor(load_bundle(folder, device=torch.device("cpu")), folder.name).trusting()
    by_id = {row["id"]: row for row in testset.read(root).rows}
    rows = [by_id[name] for name in ids]
    shown = []
    for row, sample in zip(rows, trial.raw(root, rows), strict=True):
        features = predictor.preprocessor.features(sample)
        if not isinstance(features, Refusal):
            shown.append(of_sample(predictor, row["id"], row["text"], features))
    return shown


def of_sample(predictor: Predictor, name: str, words: str | None, features: Features) -> heat.Shown:
    """Saliency of one sample, to be drawn. `words`: its text. Raises as `attribute` does."""
    bundle = predictor.bundle
    found, [answer] = attribute(bundle, features), predictor.answers([features])
    count = len(features.get("text", ()))
    tokens = pieces(words or "", bundle.tokenizer or "", count) if count else []
    return heat.shown(name, bundle.task.lines(answer)[0], found, features, tokens)


def pieces(words: str, tokenizer: str, count: int) -> list[str]:
    """What each of the first `count` tokens stands for in a text; of a mark that is not there, the token."""
    reader = Tokenizer.from_str(tokenizer)
    reader.enable_truncation(count)
    reader.no_padding()
    reader.encode_special_tokens = True
    found = reader.encode(words)
    spans = zip(found.tokens, found.offsets, strict=True)
    return [words[start:end] if end > start else token for token, (start, end) in spans]


class _Way:
    """The network of a bundle as a function of what gradients can be taken of."""

    def __init__(self, bundle: Bundle, features: Features) -> None:
        self.network, self.backbones, self.features = bundle.model, bundle.backbones, features
        self.vectors: Tensor | None = None
        """Of tokens, which stand in the place of those that the network looks up."""

    def part(self, modality: str, feature: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """A modality's point and its baseline, each (1, …)."""
        x = torch.from_numpy(np.ascontiguousarray(feature))[None]
        if modality == "text":
            with torch.no_grad():
                x = self.table()(x.long())
            return x, torch.zeros_like(x)
        x = waves.amplitudes(x) if x.dtype == torch.int16 else x.float()
        if modality == "image":
            x = x.permute(0, 3, 1, 2)
            return x, torch.full_like(x, WHITE)
        encoder = self.network.encoders[modality]
        if isinstance(encoder, Vector | FineTuned):
            return x, torch.zeros_like(x)
        return x, encoder.normalize.mean.expand_as(x)  # type: ignore[union-attr,operator]

    def table(self) -> nn.Module:
        """What looks a token's vector up."""
        encoder = self.network.encoders["text"]
        if isinstance(encoder, Vector):
            found: nn.Module = self.backbones["text"].net.get_input_embeddings()  # type: ignore[operator]
        elif isinstance(encoder, FineTuned):
            found = encoder.backbone.net.get_input_embeddings()  # type: ignore[operator]
        else:
            found = encoder.embed  # type: ignore[assignment]
        return found

    def logits(self, given: Sequence[Tensor]) -> Tensor:
        """(B, K) of B points; `given`: a tensor (B, …) a modality that the sample has, in sorted order."""
        size = len(given[0])
        here, some = torch.ones(size, dtype=torch.bool), torch.arange(size)
        inputs, lengths, present = {}, {}, dict.fromkeys(self.network.modalities, ~here)
        for m, x in zip(sorted(self.features), given, strict=True):
            if m == "text":
                self.vectors = x
                x = torch.from_numpy(self.features[m])[None].expand(size, -1)
            lengths[m] = torch.full((size,), 1 if m == "image" else x.shape[1])
            if m in self.backbones:
                x, lengths[m] = self.backbones[m](x, lengths[m]).pooled.float(), torch.ones_like(some)
            inputs[m], present[m] = x, here
        output: Output = self.network(Batch(inputs, lengths, present, some, some, frozenset()))
        return output.logits


@contextmanager
def _replaced(way: _Way, names: Sequence[str]) -> Iterator[None]:
    """Where the network looks token vectors up, it gets those of `way`."""
    with ExitStack() as stack:
        if "text" in names:
            hook = way.table().register_forward_hook(lambda *_: way.vectors)
            stack.callback(hook.remove)
        yield


def _integrated(score: Any, points: Sequence[Tensor], bases: Sequence[Tensor]) -> tuple[Tensor, ...]:
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError as error:
        what = f"saliency needs {error.name}, which is not installed"
        raise NotFoundError("library-missing", what, fix="pip install 'mmpipe[saliency]'") from None
    found: tuple[Tensor, ...] = IntegratedGradients(score).attribute(
        tuple(points), tuple(bases), n_steps=STEPS, internal_batch_size=AT_ONCE
    )
    return tuple(values.detach() for values in found)


def _summed(modality: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over colours, and over the components of a token's vector."""
    axis = {"image": 0, "text": 1}.get(modality)
    return values if axis is None else np.asarray(values.sum(axis))
