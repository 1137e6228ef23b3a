"""One label out of K: cross-entropy, calibrated probabilities, accuracy and macro F1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor, nn
from torch.nn import functional

from mmpipe import guards, imbalance, label_findings, metrics, scorecard, targets, uncorrected
from mmpipe.calibration import fit_temperature
from mmpipe.imbalance import Rule
from mmpipe.metrics import Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.targets import Coding
from mmpipe.tasks.task import (
    Asked,
    Decoding,
    Held,
    Output,
    Prediction,
    Task,
    Wishes,
    Writing,
    fullest,
    own_losses,
)


class Classify(nn.Module):
    """A linear head on the fused vector, plus one linear head for each modality that is present.

    The sum of their logits lets a strong modality speak for itself, however the joint head weighs the others.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, fused_dim: int, classes: int, dropout: float
    ) -> None:
        """`fused_dim` 0: there is no fused vector, only opinions."""
        super().__init__()
        self.outputs = classes
        self.joint = nn.Linear(fused_dim, classes) if fused_dim else None
        self.single = nn.ModuleDict({m: nn.Linear(dim, classes) for m in sorted(modalities)})
        self.dropout = nn.Dropout(dropout)

    def opinions(self, pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{modality: (B, D)} → {modality: (B, K)}: what each says by itself."""
        return {m: head(self.dropout(pooled[m])).float() for m, head in self.single.items()}

    def forward(self, fused: Tensor, pooled: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> Output:
        """`fused`: (B, F); `pooled`: {modality: (B, D)}; `weight`: {modality: (B,), 0 = absent … 1}."""
        assert self.joint is not None
        single = self.opinions(pooled)
        logits = self.joint(self.dropout(fused)).float()
        for m, own in single.items():
            logits = logits + own * weight[m][:, None]
        return Output(logits, single)


@dataclass(frozen=True, kw_only=True)
class LabelPrediction(Prediction):
    """`probabilities`: {label: calibrated}, in the bundle's order; `confidence`: that of `label`."""

    label: str
    confidence: float
    probabilities: dict[str, float]


class Classification:
    """See `task.Task`."""

    kind = "label"
    fuses = True
    explains = True
    weighed = True
    sequences = False
    writes = False
    needs: frozenset[str] = frozenset()
    chooses = "val_loss_calibrated"
    answer: type[Prediction] = LabelPrediction
    rules = guards.LABELS

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """The number of labels."""
        return len(coding.labels)

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """Linear on the fused vector and on each modality."""
        return Classify(list(modalities), dim, fused_dim=fused_dim, classes=outputs, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> Rule:
        """What is done about rare classes, by the train split's frequencies."""
        return imbalance.rule(
            imbalance.count(target, outputs),
            class_weights=wishes.class_weights,
            label_smoothing=wishes.label_smoothing,
            focal=wishes.focal,
            logit_adjustment=wishes.logit_adjustment,
        )

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: Rule
    ) -> dict[str, Tensor]:
        """Cross-entropies."""
        return own_losses(output, present, lambda logits: rule.each(logits, target))

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(logits, target, reduction="none")

    def validate(self, held: Held) -> dict[str, float]:
        """Accuracy and cross-entropy, as it is and at the temperature that suits it best."""
        logits, target = held.output.logits, held.target
        wide = logits.double()
        temperature = fit_temperature(wide.cpu().numpy(), target.cpu().numpy())
        found = {
            "val_accuracy": (logits.argmax(1) == target).double().mean(),
            "val_loss": functional.cross_entropy(wide, target),
            "val_loss_calibrated": functional.cross_entropy(wide / temperature, target),
        }
        return {name: round(float(value), 6) for name, value in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """The temperature."""
        logits, target = held.output.logits.double().cpu().numpy(), held.target.cpu().numpy()
        return Decoding(list(coding.labels), round(fit_temperature(logits, target, doubt=True), 6))

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """A label for each output."""
        count = len(set(decoding.labels))
        return "" if len(decoding.labels) == count == outputs else f"{count} labels for {outputs} classes"

    def asks(self, modalities: Sequence[str]) -> list[str]:
        """Everything at once."""
        return ["+".join(sorted(modalities))]

    def says(
        self,
        outputs: Mapping[str, Floats],
        given: Sequence[Sequence[str]],
        decoding: Decoding,
        words: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """The likeliest label."""
        return [
            {
                "label": decoding.labels[best := int(row.argmax())],
                "confidence": float(row[best]),
                "probabilities": dict(zip(decoding.labels, row.tolist(), strict=True)),
            }
            for row in metrics.softmax(fullest(outputs), decoding.temperature)
        ]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """The probability of the predicted label."""
        chances = {
            subset: metrics.softmax(scores, decoding.temperature) for subset, scores in outputs.items()
        }
        best = fullest(chances).argmax(axis=1)
        return {subset: rows[np.arange(len(best)), best] for subset, rows in chances.items()}

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The label, its probability and that of each label."""
        return [
            pa.field("prediction", pa.string()),
            pa.field("confidence", pa.float32()),
            pa.field("probabilities", pa.list_(pa.float32(), len(decoding.labels))),
        ]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""
        return {
            "prediction": prediction.label,
            "confidence": prediction.confidence,
            "probabilities": list(prediction.probabilities.values()),
        }

    def lines(self, prediction: Any) -> list[str]:
        """The label, and the five likeliest ones with their probabilities."""
        ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
        return [prediction.label, *(f"  {chance:6.1%}  {label}" for label, chance in ranked[:5])]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `scorecard.measure`."""
        temperature = decoding.temperature
        found = scorecard.measure(
            scores, decoding.labels, temperature=temperature, resamples=asked.resamples, bins=asked.bins
        )
        if not asked.offsets:
            return found
        return uncorrected.beside(found, uncorrected.of_classes(scores, decoding.labels, asked.offsets))

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """`schema.predictions`."""
        return scorecard.predictions(all_scores, decoding.labels, temperature=decoding.temperature)

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """All three."""
        scorecard.write_plots(folder, scores, found, decoding.labels, bins=found["calibration_bins"])

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """See `label_findings`."""
        return label_findings.of(found, predictions, decoding.labels)

    def summary(self, found: Numbers) -> str:
        """Accuracy, and whether fusion gains."""
        return scorecard.summary(found)

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """Places in the labels of the samples and of all models, sorted."""
        cells = [row["target"] for row in rows]
        labels = sorted({*map(str, cells), *(label for one in decodings for label in one.labels)})
        return targets.encode(Coding(self.kind, tuple(labels)), cells), labels

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N, K) probabilities; a row of zeros where the model refuses."""
        place = {label: number for number, label in enumerate(labels)}
        rows = np.zeros((len(answers), len(labels)))
        for row, answer in zip(rows, answers, strict=True):
            for label, chance in answer.probabilities.items() if answer else ():
                row[place[label]] = chance
        return rows


TASK: Task = Classification()
