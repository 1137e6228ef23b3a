"""Any modality finds its sample in any other: symmetric contrastive loss, recall at 1, 5, 10, median rank."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe import retrieval_scorecard, scorecard, sheets
from mmpipe.calibration import fit_temperature
from mmpipe.errors import InvalidError
from mmpipe.metrics import Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.targets import Coding
from mmpipe.tasks.task import Asked, Decoding, Held, Output, Prediction, Task, Wishes, Writing, fullest

START, MOST = math.log(1 / 0.07), math.log(100)
"""Of the learned log scale of similarities, as in CLIP (Radford et al. 2021, section 2.5)."""


class Projections(nn.Module):
    """One linear projection a modality, to vectors of the same length √s: their products are s × cosine.

    What several modalities say together is the direction of the sum of theirs.
    """

    def __init__(self, modalities: Sequence[str], dim: int, *, width: int, dropout: float) -> None:
        super().__init__()
        self.outputs = width
        self.project = nn.ModuleDict({m: nn.Linear(dim, width) for m in sorted(modalities)})
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.tensor(START))

    def forward(self, fused: Tensor, pooled: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Output:
        """`pooled`: {modality: (B, D)}; `weight`: {modality: (B,), 0 = absent}; nothing is fused."""
        length = (self.scale.clamp(max=MOST) / 2).exp()
        single = {
            m: functional.normalize(project(self.dropout(pooled[m])).float(), dim=1)
            for m, project in self.project.items()
        }
        total = torch.stack([of * (weight[m] > 0)[:, None] for m, of in single.items()]).sum(0)
        joint = functional.normalize(total, dim=1) * length
        return Output(joint, {m: of * length for m, of in single.items()})


@dataclass(frozen=True, kw_only=True)
class EmbeddingPrediction(Prediction):
    """`embedding`: of all modalities together; `embeddings`: {modality: its own}; each of length 1."""

    embedding: list[float]
    embeddings: dict[str, list[float]]


class Retrieval:
    """See `task.Task`. Its outputs are embeddings, whose products are similarities."""

    kind = "none"
    fuses = False
    explains = False
    weighed = False
    sequences = False
    writes = False
    needs: frozenset[str] = frozenset()
    chooses = "val_loss_calibrated"
    answer: type[Prediction] = EmbeddingPrediction
    rules = retrieval_scorecard.RULES

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """The width of an embedding: that of an encoded modality."""
        return dim

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """A projection a modality. Raises InvalidError `split-too-few` for a single one."""
        if len(modalities) < 2:
            what = f"there is {next(iter(modalities))} alone, and nothing to find by it"
            raise InvalidError("split-too-few", what, fix="give samples two modalities, and both an encoder")
        return Projections(list(modalities), dim, width=outputs, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> None:
        """Nothing is taken from the train split."""

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: None
    ) -> dict[str, Tensor]:
        """The mean over pairs of modalities."""
        pairs = [
            contrastive(output.by_modality[a], output.by_modality[b], present[a] & present[b])
            for a, b in combinations(sorted(output.by_modality), 2)
        ]
        return {"task": torch.stack(pairs).mean()}

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """There is none: a sample alone has no loss, and no trust is fitted."""
        raise AssertionError("nothing is fused")

    def validate(self, held: Held) -> dict[str, float]:
        """Loss and recall at 1 over the whole split, means over all directions that two samples have."""
        losses, calibrated, hits = [], [], []
        for a, b in combinations(sorted(held.output.by_modality), 2):
            both = held.present[a] & held.present[b]
            if both.sum() < 2:
                continue
            one, other = (held.output.by_modality[m][both].double() for m in (a, b))
            own = torch.arange(len(one), device=one.device)
            for logits in (one @ other.T, other @ one.T):
                heat = fit_temperature(logits.cpu().numpy(), own.cpu().numpy())
                losses.append(float(functional.cross_entropy(logits, own)))
                calibrated.append(float(functional.cross_entropy(logits / heat, own)))
                hits.append(float((logits.argmax(1) == own).double().mean()))
        found = {"val_recall_at_1": hits, "val_loss": losses, "val_loss_calibrated": calibrated}
        return {name: round(float(np.mean(of)) if of else 0.0, 6) for name, of in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """Whose embeddings there are, and how wide."""
        width = held.output.logits.shape[1]
        return Decoding(facts={"modalities": sorted(held.output.by_modality), "width": width})

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """The embeddings that are made are those that are told."""
        told = decoding.facts.get("modalities")
        if decoding.labels or decoding.facts.get("width") != outputs:
            return f"embeddings of {decoding.facts.get('width')} numbers for {outputs} outputs"
        return "" if isinstance(told, list) and len(told) > 1 else "no modalities to find one another"

    def asks(self, modalities: Sequence[str]) -> list[str]:
        """Each alone, and everything at once."""
        return [*sorted(modalities), "+".join(sorted(modalities))]

    def says(
        self,
        outputs: Mapping[str, Floats],
        given: Sequence[Sequence[str]],
        decoding: Decoding,
        words: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Embeddings of length 1, of the modalities that a sample has."""
        unit = {
            subset: of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-12)
            for subset, of in outputs.items()
        }
        joint = fullest(unit)
        return [
            {
                "embedding": joint[row].tolist(),
                "embeddings": {m: unit[m][row].tolist() for m in modalities},
            }
            for row, modalities in enumerate(given)
        ]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """An embedding is no sum of what its modalities say."""
        raise AssertionError("embeddings are not explained")

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The embedding of each modality: such a table is an index to search in."""
        kind = pa.list_(pa.float32(), decoding.facts["width"])
        return [pa.field(f"embedding_{m}", kind) for m in decoding.facts["modalities"]]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""
        return {f"embedding_{m}": of for m, of in prediction.embeddings.items()}

    def lines(self, prediction: Any) -> list[str]:
        """How wide the embedding is, and its first numbers."""
        first = " ".join(f"{value:+.3f}" for value in prediction.embedding[:6])
        return [f"an embedding of {len(prediction.embedding)} numbers", f"  {first} …"]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `retrieval_scorecard.measure`."""
        return retrieval_scorecard.measure(scores, resamples=asked.resamples)

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """Ranks."""
        return retrieval_scorecard.predictions(all_scores)

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """Recall at 5 of each direction, in the place of subsets."""
        sheets.write(folder / "confusion.csv", ["actual", "predicted"], [])
        scorecard.write_calibration(folder, None)
        scorecard.write_subsets(folder, found["directions"], "recall_at_5")

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """Recall of each direction, the samples found last and first."""
        return retrieval_scorecard.told(found, predictions)

    def summary(self, found: Numbers) -> str:
        """Mean recall, and recall at 1 of each direction."""
        ways = ", ".join(f"{name} {one['recall_at_1']:.3f}" for name, one in found["directions"].items())
        interval = f"[{found['mean_recall_low']:.3f}, {found['mean_recall_high']:.3f}]"
        return f"{scorecard.counted(found)}; mean recall {found['mean_recall']:.3f} {interval}; R@1: {ways}"

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """(N, directions): which searches there are: the sample has both modalities, and some model, too."""
        known = {m for one in decodings for m in one.facts["modalities"]}
        here = {
            m: [row[f"{m}_sha256"] is not None and m in known for row in rows]
            for m in ("audio", "image", "text")
        }
        pairs = [np.array(here[a]) & np.array(here[b]) for a, b in retrieval_scorecard.DIRECTIONS]
        return np.stack(pairs, axis=1), []

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N, directions) of ranks among all samples that the model embeds in both; NaN for the others."""
        said = [answer.embeddings if answer else {} for answer in answers]
        names = sorted({m for one in said for m in one})
        present = {m: np.array([m in one for one in said]) for m in names}
        width = max((len(of) for one in said for of in one.values()), default=1)
        embeddings = {m: np.array([one.get(m, [0.0] * width) for one in said]) for m in names}
        present = present or {"text": np.zeros(len(said), np.bool_)}
        return retrieval_scorecard.all_ranks(embeddings, present)


def contrastive(one: Tensor, other: Tensor, both: Tensor) -> Tensor:
    """Symmetric InfoNCE: a scalar. `one`, `other`: (B, E), whose products are the logits; `both`: bool (B,).

    Each sample of `both` is to find its own partner among those of all such samples, both ways (van den Oord
    et al. 2018; Radford et al. 2021, figure 3). 0 where there are fewer than two.
    """
    a, b = one[both], other[both]
    if len(a) < 2:
        return (one.sum() + other.sum()) * 0
    logits, own = a @ b.T, torch.arange(len(a), device=a.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


TASK: Task = Retrieval()
