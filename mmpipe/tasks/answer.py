"""An answer in words, written by a decoder: token cross-entropy, exact match, token F1, BLEU."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from mmpipe import answer_scorecard, scorecard, sheets
from mmpipe.errors import InvalidError
from mmpipe.metrics import Floats
from mmpipe.model import decoder, writer
from mmpipe.model.writer import Writer
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
    prediction_table,
)
from mmpipe.transcripts.form import normalise
from mmpipe.transcripts.units import Units

MOST_CONFUSED = 30
"""Different answers of a test split, at most, of which the plot of confusions is written."""


@dataclass(frozen=True, kw_only=True)
class AnswerPrediction(Prediction):
    """`confidence`: the probability of `answer`; of a closed set, that it is the one of the set.

    `alternatives`: {answer: probability}, the likeliest first, as many as the search tells.
    """

    answer: str
    confidence: float
    alternatives: dict[str, float]


class Answering:
    """See `task.Task`. In training an output is of each token of the target, else it is the answers told."""

    kind = "text"
    fuses = False
    explains = False
    weighed = True
    sequences = True
    writes = True
    needs: frozenset[str] = frozenset()
    chooses = "val_loss"
    answer: type[Prediction] = AnswerPrediction
    rules = answer_scorecard.RULES

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """The number of ids of a target's units."""
        assert coding.units is not None
        return coding.units.size

    def head(
        self,
        modalities: Mapping[str, int],
        dim: int,
        *,
        fused_dim: int,
        outputs: int,
        dropout: float,
        design: Mapping[str, Any] = MappingProxyType({}),
    ) -> nn.Module:
        """A writer. `design`: of it, as `writer.Design` has it; raises InvalidError where that is none."""
        made = writer.design(design, dim, units=outputs)
        return Writer(modalities, dim, fused_dim=fused_dim, units=outputs, design=made, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> None:
        """Nothing is taken from the train split."""

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: None
    ) -> dict[str, Tensor]:
        """-log p a token, the end of each answer among them, where all before it are right."""
        tokens, lengths = writer.tokens(target, output.logits.shape[1] - 1)
        return {"task": decoder.loss(output.logits, tokens, lengths)}

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """There is none: no trust is fitted."""
        raise AssertionError("no trust is fitted")

    def validate(self, held: Held) -> dict[str, float]:
        """The loss a token, and how often greedy search would write exactly the units of the target."""
        own, right = held.output.logits.double().unbind(2)
        lengths = writer.tokens(held.target, own.shape[1] - 1)[1]
        inside = torch.arange(own.shape[1], device=own.device) < lengths[:, None]
        found = {
            "val_exact_match": ((right > 0) | ~inside).all(1).double().mean(),
            "val_loss": -torch.where(inside, own, 0).sum() / lengths.sum().clamp(min=1),
        }
        return {name: round(float(value), 6) for name, value in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """The units that answers are written in."""
        assert isinstance(coding.units, Units)
        return Decoding(facts={"units": json.loads(coding.units.to_json())})

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """A unit for each output."""
        try:
            size = _units(decoding).size
        except InvalidError as error:
            return error.what
        if decoding.labels:
            return f"{len(decoding.labels)} labels for answers in words"
        return "" if size == outputs else f"{size} units for {outputs} outputs"

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
        """The likeliest answer that was found, and the others."""
        ranked = [_ranked(told, decoding) for told in fullest(outputs).tolist()]
        best = [next(iter(found.items())) for found in ranked]
        return [
            {"answer": answer, "confidence": chance, "alternatives": found}
            for (answer, chance), found in zip(best, ranked, strict=True)
        ]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """A subset that writes another answer says nothing of this one."""
        raise AssertionError("answers in words are not explained")

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The answer and its probability."""
        return [pa.field("prediction", pa.string()), pa.field("confidence", pa.float32())]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""
        return {"prediction": prediction.answer, "confidence": prediction.confidence}

    def lines(self, prediction: Any) -> list[str]:
        """The answer, and the five likeliest that were found with their probabilities."""
        ranked = list(prediction.alternatives.items())[:5]
        return [_shown(prediction.answer), *(f"  {chance:6.1%}  {_shown(one)}" for one, chance in ranked)]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `answer_scorecard.measure`."""
        said = {subset: _answers(told, decoding) for subset, told in scores.logits.items()}
        return answer_scorecard.measure(scores, said, _wanted(scores), resamples=asked.resamples)

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """With the answer that is true of each sample, in the form in which answers are learnt."""
        return prediction_table(self, all_scores, decoding, _wanted)

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """Subsets, and which answers are confused where there are few; calibration is of closed labels."""
        inside = scorecard.scorable(scores)
        pairs = zip(_wanted(scores), _answers(scores.logits[scores.full], decoding), inside, strict=True)
        shown = [(wanted, given) for wanted, given, here in pairs if here]
        few = len({wanted for wanted, _ in shown}) <= MOST_CONFUSED
        sheets.write(folder / "confusion.csv", ["actual", "predicted"], shown if few else [])
        scorecard.write_calibration(folder, None)
        scorecard.write_subsets(folder, found["subsets"], "exact_match")

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """The three figures, the commonest answers, the surest right and wrong."""
        return answer_scorecard.told(found, predictions)

    def summary(self, found: Numbers) -> str:
        """All three figures, and whether fusion gains."""
        interval = f"[{found['exact_match_low']:.3f}, {found['exact_match_high']:.3f}]"
        head = f"{scorecard.counted(found)}; exact match {found['exact_match']:.3f} {interval}"
        more = f"token F1 {found['token_f1']:.3f}, BLEU {found['bleu']:.3f}"
        return f"{head}, {more}; {scorecard.verdict(found, 'exact_match')}"

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """The answers in the form in which they are learnt."""
        return np.array([normalise(str(row["target"])) for row in rows], np.str_), []

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Any:
        """(N,) texts; an empty one where the model refuses."""
        return np.array([answer.answer if answer else "" for answer in answers], np.str_)


def _ranked(told: Sequence[Sequence[float]], decoding: Decoding) -> dict[str, float]:
    """{answer: probability}, the likeliest first; different units of the same words are one answer."""
    found: dict[str, float] = {}
    for units, log_prob in writer.answers(told):
        text = _units(decoding).decode(units)
        found[text] = found.get(text, 0.0) + math.exp(log_prob)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _answers(told: Floats, decoding: Decoding) -> list[str]:
    return [next(iter(_ranked(row, decoding))) for row in told.tolist()]


def _wanted(scores: Scores) -> list[str]:
    return [normalise(str(cell)) for cell in scores.cells]


def _shown(answer: str) -> str:
    return answer or "(no word)"


def _units(decoding: Decoding) -> Units:
    """Read once for as long as the decoding is loaded."""
    if "units" not in decoding.kept:
        decoding.kept["units"] = Units.from_json(json.dumps(decoding.facts.get("units")))
    found: Units = decoding.kept["units"]
    return found


TASK: Task = Answering()
