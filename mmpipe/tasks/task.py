"""What a task is: its head and losses, how it is judged, how it answers; and the task of a name.

A task is one file of this package with a `TASK`. It is imported by its name, so that the fingerprint of a
stage holds the task of its workspace and no other.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.metrics import Floats
from mmpipe.scorecard import Scores
from mmpipe.targets import Coding
from mmpipe.verdict import Rules

Numbers = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(N, K) and targets (N, …) → (N,): of each sample."""


class Output(NamedTuple):
    """`logits`: (B, K). `by_modality`: {modality: (B, K)}, each modality's own opinion.

    Of a sequence (B, T, K), of which `lengths`, int64 (B,), say how many steps are the sample's own.
    """

    logits: Tensor
    by_modality: dict[str, Tensor]
    lengths: Tensor | None = None


class Held(NamedTuple):
    """A network's output for all of a dataset; `target` as `targets.encode` has it; `present`: bool (N,).

    `words`: the text of each sample where the model reads it as words, else nothing.
    """

    output: Output
    target: Tensor
    present: dict[str, Tensor]
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Wishes:
    """What `train` and `objective` in params.yaml ask of a loss; each task takes its own."""

    class_weights: str = "none"
    label_smoothing: float = 0.0
    regression: str = "huber"
    focal: float = 0.0
    logit_adjustment: float = 0.0

    def corrections(self, *, balanced: bool) -> "Wishes":
        """Those about rare classes, for a loss of samples as they come: a balanced order becomes weights."""
        weights = "inverse" if balanced else self.class_weights
        return Wishes(weights, focal=self.focal, logit_adjustment=self.logit_adjustment)


@dataclass(frozen=True)
class Writing:
    """What `model.output` in params.yaml asks of texts that are predicted; its comments say what each is."""

    decoding: str = "beam"
    width: int = 32
    order: int = 5
    language_weight: float | None = None
    unit_bonus: float | None = None
    context_bonus: float = 1.0


@dataclass(frozen=True)
class Decoding:
    """What turns a network's outputs into answers; all of it is in the bundle.

    `facts` and `arrays`: the task's own. `kept`: what the task made of them, for as long as they are loaded.
    """

    labels: list[str] = field(default_factory=list)
    temperature: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Asked:
    """How an evaluation measures: resamples of the bootstrap, bins of the calibration error.

    `offsets`: {label: nats} that training added to log-odds for the sake of rare classes, to be told apart.
    """

    resamples: int
    bins: int
    offsets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """An answer. `modalities`: those used, sorted. `model`: its tag or folder name, beside its digest."""

    modalities: tuple[str, ...]
    model: str
    bundle_sha256: str


class Task(Protocol):
    """One file of this package.

    `kind`: of its targets. `fuses`: whether modalities become one answer, with a trust in each. `explains`:
    whether `worth` says what an answer is made of. `weighed`: whether what fewer modalities say is an answer,
    too, so that the task's figure says what each is good for. `sequences`: whether the head reads what the
    encoders say of each step, and not what the fusion makes of it. `writes`: whether it reads both and writes
    a text unit by unit, in training told what comes before. `needs`: the modalities without which there is no
    answer.
    `chooses`: the figure of `validate` by which an epoch is chosen, the lowest. `answer`: the class of its
    predictions. `rules`: by which the gate judges.
    """

    kind: str
    fuses: bool
    explains: bool
    weighed: bool
    sequences: bool
    writes: bool
    needs: frozenset[str]
    chooses: str
    answer: type[Prediction]
    rules: Rules

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """K, the width of the head's output."""

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """(fused (B, F), {modality: pooled (B, D)}, {modality: weight (B,)}) → Output.

        `fused_dim` 0: a fusion of opinions, which asks `opinions`: {modality: pooled} → {modality: (B, K)}.
        Of `sequences`: ({modality: Encoded}, {modality: weight (B,)}) → Output. Of a head that writes, which
        takes the keyword `design`: (fused (B, F), {modality: Encoded}, {modality: weight (B,)}, its target or
        None). `modalities`: of each the width of its sequence.
        """

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> Any:
        """What the loss takes from the train split: class weights, say.

        Of a task that fuses, its `each`, (N, K) and targets → (N,), is the loss of each sample.
        """

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: Any
    ) -> dict[str, Tensor]:
        """Scalars: `task`, and each modality's own by its name, where it has one."""

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N,): the loss of each sample, all classes counting alike; only of a task that fuses."""

    def validate(self, held: Held) -> dict[str, float]:
        """Figures of a validation split, named `val_…`."""

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """What turns outputs into answers, fitted on the validation split, which may be empty."""

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """What in a bundle's decoding does not go together, or nothing."""

    def asks(self, modalities: Sequence[str]) -> list[str]:
        """The subsets of modalities whose outputs an answer needs; the last is all of them."""

    def says(
        self,
        outputs: Mapping[str, Floats],
        given: Sequence[Sequence[str]],
        decoding: Decoding,
        words: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """The fields of `answer`, a sample. `outputs`: {subset: (N, K)}; `given`: the sample's modalities.

        Of sequences (N, T, K), NaN past the end of each. `words`: the sample's text, as far as the model
        reads it, empty where it has none.
        """

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """{subset: (N,)}: what each subset of modalities says of the full one's answer; "" is of none."""

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The columns of its predictions in a table; a list has an entry for each label."""

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""

    def lines(self, prediction: Any) -> list[str]:
        """A prediction for people; the first line is the answer."""

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """All metrics of a split, as `metrics/evaluate.json` has them."""

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """The table `data/predictions.parquet`."""

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """`confusion.csv`, `calibration.csv` and `subsets.csv` for DVC; only a head of what there is none."""

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """What the report and the card tell, as `findings` has it."""

    def summary(self, found: Numbers) -> str:
        """The stage's row accounting and headline, in one line."""

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """Targets of test samples, rows of `schema.SAMPLES`, and the labels of all models, for the gate."""

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N, …): what a model says of each test sample; `answers` has None where it refuses."""


def load(name: str) -> Task:
    """The task of this name, a module of this package."""
    return cast(Task, importlib.import_module(f"mmpipe.tasks.{name}").TASK)


def names() -> list[str]:
    """Every task there is."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if name != "task")


def fullest(by_subset: Mapping[str, Floats]) -> Floats:
    """That of the subset with the most modalities: of all of them."""
    return by_subset[max(by_subset, key=lambda name: len(name.split("+")) if name else 0)]


def prediction_table(
    task: Task,
    all_scores: Sequence[Scores],
    decoding: Decoding,
    truth: Callable[[Scores], Sequence[str | None]],
) -> pa.Table:
    """`data/predictions.parquet` of any task: id, split, target, its own fields, modalities; sorted by id.

    `truth`: the target of each sample of some scores, as a stored cell.
    """
    rows: list[dict[str, Any]] = []
    for scores in all_scores:
        names = sorted(scores.present)
        given = [[m for m in names if scores.present[m][row]] for row in range(len(scores.ids))]
        outputs = {subset: scores.logits[subset] for subset in task.asks(names)}
        targets, said = truth(scores), task.says(outputs, given, decoding, scores.words) if given else []
        for row in np.flatnonzero(scores.scored(scores.full)).tolist():
            if not task.needs <= {*given[row]}:
                continue
            used: dict[str, Any] = {"modalities": tuple(given[row]), "model": "", "bundle_sha256": ""}
            cells = task.cells(task.answer(**said[row], **used))
            own = {"id": scores.ids[row], "split": scores.split, "target": targets[row]}
            rows.append({**own, **cells, "modalities": "+".join(given[row])})
    text = {name: pa.field(name, pa.string()) for name in ("id", "split", "target", "modalities")}
    columns = [text["id"], text["split"], text["target"], *task.fields(decoding), text["modalities"]]
    schema = pa.schema(columns, metadata={"labels": "\n".join(decoding.labels)})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["id"])), schema=schema)


def joined(parts: Sequence[Output]) -> Output:
    """Batch after batch as one; shorter sequences are filled up with zeros."""
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Output(
        _cat([part.logits for part in parts]),
        {m: _cat([part.by_modality[m] for part in parts]) for m in parts[0].by_modality},
        torch.cat(lengths) if lengths else None,
    )


def _cat(parts: Sequence[Tensor]) -> Tensor:
    if parts[0].ndim < 3:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


def own_losses(
    output: Output, present: Mapping[str, Tensor], each: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """`task`: the mean of `each`, (B, K) → (B,); and each modality's over the samples that have it.

    The latter are divided by all samples of the batch.
    """
    own = {m: (each(logits) * present[m]).sum() / len(logits) for m, logits in output.by_modality.items()}
    return {"task": each(output.logits).mean(), **own}
