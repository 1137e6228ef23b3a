"""Any number of labels out of K: binary cross-entropy, thresholds, micro and macro F1, average precision."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpipe import (
    guards,
    imbalance,
    label_findings,
    metrics,
    multilabel_scorecard,
    scorecard,
    sheets,
    targets,
    uncorrected,
)
from mmpipe.calibration import fit_binary_temperature
from mmpipe.metrics import Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.targets import Coding
from mmpipe.tasks.classify import Classify
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
    prediction_table,
)
from mmpipe.thresholds import fit_thresholds


@dataclass(frozen=True)
class Rule:
    """`positive`: (K,) weight of a label's positive samples. `smoothing`: how far 0 and 1 move to 1/2."""

    positive: Tensor | None = None
    smoothing: float = 0.0

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K), (B, K) → (B,): the mean binary cross-entropy of a sample's labels."""
        soft = target * (1 - self.smoothing) + self.smoothing / 2
        positive = None if self.positive is None else self.positive.to(logits)
        return functional.binary_cross_entropy_with_logits(
            logits, soft, pos_weight=positive, reduction="none"
        ).mean(1)


@dataclass(frozen=True, kw_only=True)
class LabelsPrediction(Prediction):
    """`labels`: those whose probability reaches its threshold. `probabilities`: {label: calibrated}.

    `confidence`: the probability of exactly these labels, were they independent of one another.
    """

    labels: list[str]
    confidence: float
    probabilities: dict[str, float]


class Multilabel:
    """See `task.Task`."""

    kind = "labels"
    fuses = True
    explains = True
    weighed = True
    sequences = False
    writes = False
    needs: frozenset[str] = frozenset()
    chooses = "val_loss_calibrated"
    answer: type[Prediction] = LabelsPrediction
    rules = guards.SEVERAL_LABELS

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """The number of labels."""
        return len(coding.labels)

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """Linear on the fused vector and on each modality."""
        return Classify(list(modalities), dim, fused_dim=fused_dim, classes=outputs, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> Rule:
        """`inverse`: a label's positives weigh as much as its negatives."""
        inverse = wishes.class_weights == "inverse"
        return Rule(imbalance.positive_weights(target) if inverse else None, wishes.label_smoothing)

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: Rule
    ) -> dict[str, Tensor]:
        """Binary cross-entropies."""
        return own_losses(output, present, lambda logits: rule.each(logits, target))

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy."""
        return Rule().each(logits, target)

    def validate(self, held: Held) -> dict[str, float]:
        """Micro F1 at 1/2, and binary cross-entropy as it is and at the temperature that suits it best."""
        logits, target = held.output.logits.double(), held.target.double()
        temperature = fit_binary_temperature(logits.cpu().numpy(), target.cpu().numpy())
        given = (logits >= 0).double()
        found = {
            "val_micro_f1": 2 * (given * target).sum() / (given.sum() + target.sum()).clamp(min=1),
            "val_loss": self.each(logits, target).mean(),
            "val_loss_calibrated": self.each(logits / temperature, target).mean(),
        }
        return {name: round(float(value), 6) for name, value in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """The temperature, and a threshold a label."""
        logits, target = held.output.logits.double().cpu().numpy(), held.target.cpu().numpy()
        temperature = round(fit_binary_temperature(logits, target, doubt=True), 6)
        chances = torch.sigmoid(held.output.logits.double() / temperature).cpu().numpy()
        facts = {"thresholds": fit_thresholds(chances, target if len(logits) else [])}
        return Decoding(list(coding.labels), temperature, facts)

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """A label and a threshold for each output."""
        labels, thresholds = decoding.labels, decoding.facts.get("thresholds")
        if not len(set(labels)) == len(labels) == outputs:
            return f"{len(set(labels))} labels for {outputs} outputs"
        good = isinstance(thresholds, list) and all(isinstance(one, float | int) for one in thresholds)
        return "" if good and len(thresholds or []) == outputs else "no threshold for each label"

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
        """The labels that reach their thresholds."""
        chances, marks = _decided(fullest(outputs), decoding)
        sure = np.where(marks > 0, chances, 1 - chances).prod(axis=1)
        return [
            {
                "labels": [name for name, mark in zip(decoding.labels, some, strict=True) if mark],
                "confidence": float(confidence),
                "probabilities": dict(zip(decoding.labels, row.tolist(), strict=True)),
            }
            for row, some, confidence in zip(chances, marks, sure, strict=True)
        ]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """The probability of the likeliest label."""
        chances = {subset: _decided(scores, decoding)[0] for subset, scores in outputs.items()}
        best = fullest(chances).argmax(axis=1)
        return {subset: rows[np.arange(len(best)), best] for subset, rows in chances.items()}

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The labels as a JSON list, the probability of exactly these, and that of each label."""
        return [
            pa.field("prediction", pa.string()),
            pa.field("confidence", pa.float32()),
            pa.field("probabilities", pa.list_(pa.float32(), len(decoding.labels))),
        ]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""
        return {
            "prediction": json.dumps(prediction.labels, ensure_ascii=False),
            "confidence": prediction.confidence,
            "probabilities": list(prediction.probabilities.values()),
        }

    def lines(self, prediction: Any) -> list[str]:
        """The labels, and the five likeliest ones with their probabilities."""
        ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
        head = ", ".join(prediction.labels) or "no label"
        return [head, *(f"  {chance:6.1%}  {label}" for label, chance in ranked[:5])]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `multilabel_scorecard.measure`."""
        found = multilabel_scorecard.measure(
            scores,
            decoding.labels,
            temperature=decoding.temperature,
            thresholds=decoding.facts["thresholds"],
            resamples=asked.resamples,
            bins=asked.bins,
        )
        if not asked.offsets:
            return found
        return uncorrected.beside(found, uncorrected.of_labels(scores, decoding.labels, asked.offsets))

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """With the labels that are true of each sample and known to the model."""
        return prediction_table(self, all_scores, decoding, lambda scores: _names(scores.target, decoding))

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """Calibration and subsets; there is no confusion of one label with another."""
        inside = scorecard.scorable(scores)
        chances, _ = _decided(scores.logits[scores.full][inside], decoding)
        bars = metrics.reliability(chances.ravel(), scores.target[inside].ravel(), found["calibration_bins"])
        sheets.write(folder / "confusion.csv", ["actual", "predicted"], [])
        scorecard.write_calibration(folder, bars)
        scorecard.write_subsets(folder, found["subsets"], "micro_f1")

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """F1, every label, calibration, the surest right and wrong."""
        return label_findings.of_several(found, predictions, decoding.labels)

    def summary(self, found: Numbers) -> str:
        """Micro F1, and whether fusion gains."""
        interval = f"[{found['micro_f1_low']:.3f}, {found['micro_f1_high']:.3f}]"
        head = f"{scorecard.counted(found)}; micro F1 {found['micro_f1']:.3f} {interval}"
        return f"{head}, mAP {found['map']:.3f}; {scorecard.verdict(found, 'micro_f1')}"

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """(N, K) marks of the labels of the samples and of all models, sorted."""
        cells = [row["target"] for row in rows]
        own = (label for cell in cells for label in targets.labels_of(str(cell)))
        labels = sorted({*own, *(label for one in decodings for label in one.labels)})
        return targets.encode(Coding(self.kind, tuple(labels)), cells), labels

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N, K): 1 for each label given; a row of zeros where the model refuses."""
        place = {label: number for number, label in enumerate(labels)}
        rows = np.zeros((len(answers), len(labels)))
        for row, answer in zip(rows, answers, strict=True):
            row[[place[label] for label in answer.labels] if answer else []] = 1
        return rows


def _decided(logits: Floats, decoding: Decoding) -> tuple[Floats, Floats]:
    return multilabel_scorecard.decided(logits, decoding.temperature, decoding.facts["thresholds"])


def _names(target: Any, decoding: Decoding) -> list[str]:
    """Rows of marks as stored cells."""
    labels = np.array(decoding.labels, object)
    return [json.dumps(labels[row > 0].tolist(), ensure_ascii=False) for row in target]


TASK: Task = Multilabel()
