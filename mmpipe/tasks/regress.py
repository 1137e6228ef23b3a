"""A number: Huber's or the squared loss on standardised targets, MAE, RMSE, R², Spearman."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor, nn
from torch.nn import functional

from mmpipe import regression_scorecard, scorecard, sheets
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

DIGITS = 12
"""Significant digits of a target that was standardised and is told again."""


@dataclass(frozen=True)
class Rule:
    """`kind`: huber (squared up to one standard deviation of the target, then linear) or mse."""

    kind: str = "huber"

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, 1), (B,) → (B,)."""
        given, wanted = logits[:, 0], target.to(logits.dtype)
        if self.kind == "mse":
            return functional.mse_loss(given, wanted, reduction="none")
        return functional.huber_loss(given, wanted, reduction="none")


@dataclass(frozen=True, kw_only=True)
class NumberPrediction(Prediction):
    """`value`: in the unit of the targets."""

    value: float


class Regression:
    """See `task.Task`. Outputs are standardised: 0 is the mean of the train split."""

    kind = "number"
    fuses = True
    explains = True
    weighed = True
    sequences = False
    writes = False
    needs: frozenset[str] = frozenset()
    chooses = "val_loss"
    answer: type[Prediction] = NumberPrediction
    rules = regression_scorecard.RULES

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """One."""
        return 1

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """Linear on the fused vector and on each modality."""
        return Classify(list(modalities), dim, fused_dim=fused_dim, classes=outputs, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> Rule:
        """The loss that is asked for."""
        return Rule(wishes.regression)

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: Rule
    ) -> dict[str, Tensor]:
        """Of the number that all say, and that each says."""
        return own_losses(output, present, lambda logits: rule.each(logits, target))

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """Huber's."""
        return Rule().each(logits, target)

    def validate(self, held: Held) -> dict[str, float]:
        """Huber's loss and R² of the standardised targets."""
        given, wanted = held.output.logits[:, 0].double(), held.target.double()
        total = (wanted - wanted.mean()).square().sum().clamp(min=1e-12)
        found = {
            "val_r2": 1 - (given - wanted).square().sum() / total,
            "val_loss": self.each(held.output.logits.double(), held.target).mean(),
        }
        return {name: round(float(value), 6) for name, value in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """What undoes the standardisation."""
        return Decoding(facts={"mean": coding.mean, "deviation": coding.deviation})

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """One output, and finite numbers that undo the standardisation."""
        mean, deviation = (decoding.facts.get(name) for name in ("mean", "deviation"))
        good = all(isinstance(one, float | int) and math.isfinite(one) for one in (mean, deviation))
        if outputs != 1 or decoding.labels:
            return f"{outputs} outputs and {len(decoding.labels)} labels for one number"
        return "" if good and float(str(deviation)) > 0 else "no mean and deviation of the targets"

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
        """The number."""
        return [{"value": value} for value in _values(fullest(outputs), decoding).tolist()]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """The number that each subset says."""
        return {subset: _values(of, decoding) for subset, of in outputs.items()}

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The number."""
        return [pa.field("prediction", pa.float64())]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The value of this column."""
        return {"prediction": prediction.value}

    def lines(self, prediction: Any) -> list[str]:
        """The number."""
        return [f"{prediction.value:.6g}"]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `regression_scorecard.measure`."""
        return regression_scorecard.measure(scores, **decoding.facts, resamples=asked.resamples)

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """With the number that is true of each sample."""
        return prediction_table(self, all_scores, decoding, lambda scores: _cells(scores.target, decoding))

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """Subsets; nothing is confused, and no probability is calibrated."""
        sheets.write(folder / "confusion.csv", ["actual", "predicted"], [])
        scorecard.write_calibration(folder, None)
        scorecard.write_subsets(folder, found["subsets"], "mae")

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """Errors, predicted against actual, the farthest off."""
        return regression_scorecard.told(found, predictions)

    def summary(self, found: Numbers) -> str:
        """MAE and R², and whether fusion gains."""
        interval = f"[{found['mae_low']:.4g}, {found['mae_high']:.4g}]"
        head = f"{scorecard.counted(found)}; MAE {found['mae']:.4g} {interval}, R² {found['r2']:.3f}"
        return f"{head}; {scorecard.verdict(found, 'mae')}"

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """The numbers."""
        return np.array([float(row["target"]) for row in rows], np.float64), []

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N, 1); NaN where the model refuses."""
        return np.array([[answer.value if answer else math.nan] for answer in answers], np.float64)


def _values(outputs: Floats, decoding: Decoding) -> Floats:
    return np.asarray(decoding.facts["mean"] + decoding.facts["deviation"] * outputs[:, 0])


def _cells(target: Any, decoding: Decoding) -> list[str]:
    """Standardised targets as stored cells."""
    values = decoding.facts["mean"] + decoding.facts["deviation"] * target.astype(np.float64)
    return [repr(float(f"{value:.{DIGITS}g}")) for value in values]


TASK: Task = Regression()
