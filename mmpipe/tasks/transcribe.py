"""What is said, as text: CTC over the frames of a recording; greedy or a prefix beam; WER and CER."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpipe import scorecard, sheets, transcript_scorecard
from mmpipe.errors import InvalidError
from mmpipe.metrics import Floats
from mmpipe.model import ctc
from mmpipe.model.parts import Encoded
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
from mmpipe.transcripts import ctc as decoder
from mmpipe.transcripts import error_rate, ngram, recogniser
from mmpipe.transcripts.form import normalise
from mmpipe.transcripts.recogniser import HEARD, Recogniser
from mmpipe.transcripts.scorer import Expected
from mmpipe.transcripts.units import Units


class Frames(nn.Module):
    """A linear head on every step of the encoded recording."""

    def __init__(self, width: int, *, outputs: int, dropout: float) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout = nn.Dropout(dropout)
        self.units = nn.Linear(width, outputs)

    def forward(self, encoded: Mapping[str, Encoded], weight: Mapping[str, Tensor]) -> Output:
        """→ (B, T, ids); of a recording that is absent (`weight` 0) no step counts."""
        heard = encoded[HEARD]
        logits = self.units(self.dropout(heard.sequence)).float()
        lengths = heard.mask.sum(1).long() * (weight[HEARD] > 0)
        return Output(logits, {}, lengths)


@dataclass(frozen=True, kw_only=True)
class TextPrediction(Prediction):
    """`text`: in its normal form. `confidence`: its chance by what is heard, a unit: geometric mean."""

    text: str
    confidence: float


class Transcription:
    """See `task.Task`. Targets are transcripts; outputs are units in frames, of which id 0 is the blank."""

    kind = "text"
    fuses = False
    explains = False
    weighed = True
    sequences = True
    writes = False
    needs: frozenset[str] = frozenset({HEARD})
    chooses = "val_error"
    answer: type[Prediction] = TextPrediction
    rules = transcript_scorecard.RULES

    def outputs(self, coding: Coding, *, dim: int) -> int:
        """The number of units, and the blank."""
        assert coding.units is not None
        return coding.units.size

    def head(
        self, modalities: Mapping[str, int], dim: int, *, fused_dim: int, outputs: int, dropout: float
    ) -> nn.Module:
        """Linear on each step. Raises InvalidError `split-too-few` where there is nothing to hear."""
        if HEARD not in modalities:
            fix = "name the column of recordings in data.columns.audio"
            raise InvalidError("split-too-few", "no train sample has a recording", fix=fix)
        return Frames(modalities[HEARD], outputs=outputs, dropout=dropout)

    def rule(self, target: Tensor, wishes: Wishes, *, outputs: int) -> None:
        """Nothing is taken from the train split."""

    def losses(
        self, output: Output, target: Tensor, present: Mapping[str, Tensor], rule: None
    ) -> dict[str, Tensor]:
        """-log p a unit; a sample with too few frames for its transcript counts as 0."""
        assert output.lengths is not None
        ids, lengths = _ids(target)
        return {"task": ctc.loss(output.logits, output.lengths, ids, lengths)}

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """There is none: nothing is fused, and no trust is fitted."""
        raise AssertionError("nothing is fused")

    def validate(self, held: Held) -> dict[str, float]:
        """Unit error rate of the likeliest paths, loss, samples that are too short, and what epochs go by.

        `val_error`: the mean of the error rate and of 1 - the chance of a unit, e^-loss. At first all is
        blank, and only the loss tells one epoch from another; later it rises while texts get better.
        """
        output, here = held.output, held.present[HEARD]
        assert output.lengths is not None
        ids, lengths = _ids(held.target)
        edits = error_rate.characters(
            [_letters(row) for row in held.target[here].tolist()],
            [_letters(decoder.collapsed(path)) for path in _paths(output, here)],
        )
        rate = 0.0 if math.isnan(edits.rate) else edits.rate
        loss = float(ctc.loss(output.logits.double(), output.lengths, ids, lengths))
        short = ~ctc.alignable(output.lengths, ids, lengths) & here
        error = (rate + 1 - math.exp(-loss)) / 2
        found = {"val_uer": rate, "val_loss": loss, "val_error": error, "val_too_short": int(short.sum())}
        return {name: round(value, 6) for name, value in found.items()}

    def fit(self, held: Held, coding: Coding, writing: Writing) -> Decoding:
        """Units, the language model of the train split's transcripts, and its weight by the val split.

        It is weighed beside the expected words of those samples that have some.
        """
        units = coding.units
        assert isinstance(units, Units)
        order = writing.order if writing.decoding == "beam" else 0
        facts: dict[str, Any] = {
            "units": json.loads(units.to_json()),
            "decoding": writing.decoding,
            "width": writing.width,
            "context_bonus": writing.context_bonus,
            "order": order,
        }
        if not order:
            return Decoding(facts=facts)
        model = ngram.fit(map(units.encode, coding.texts), order=order, size=units.size)
        weight, bonus = writing.language_weight, writing.unit_bonus
        facts["language_weight"], facts["unit_bonus"] = recogniser.tune(
            model,
            units,
            *_told(held, units),
            expected=_expected(held, units, writing.context_bonus),
            weights=recogniser.WEIGHTS if weight is None else [weight],
            bonuses=recogniser.BONUSES if bonus is None else [bonus],
            width=writing.width,
        )
        return Decoding(facts=facts, arrays={"grams": model.grams, "counts": model.counts})

    def contradiction(self, decoding: Decoding, *, outputs: int) -> str:
        """Units for each output but the blank, and what decoding needs."""
        if decoding.labels:
            return f"{len(decoding.labels)} labels for a text"
        return recogniser.contradiction(decoding.facts, decoding.arrays, outputs=outputs)

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
        """The best text of each, which its own words may help."""
        reads = _recogniser(decoding)
        heard = [
            reads.read(logits, words[row] if words else "") for row, logits in enumerate(fullest(outputs))
        ]
        return [{"text": one.text, "confidence": one.confidence} for one in heard]

    def worth(self, outputs: Mapping[str, Floats], decoding: Decoding) -> dict[str, Floats]:
        """A text is no sum of what its modalities say."""
        raise AssertionError("transcripts are not explained")

    def fields(self, decoding: Decoding) -> list[pa.Field]:
        """The text and how sure it is."""
        return [pa.field("prediction", pa.string()), pa.field("confidence", pa.float32())]

    def cells(self, prediction: Any) -> dict[str, Any]:
        """The values of these columns."""
        return {"prediction": prediction.text, "confidence": prediction.confidence}

    def lines(self, prediction: Any) -> list[str]:
        """The text, and how sure it is."""
        return [prediction.text or "(nothing)", f"  {prediction.confidence:6.1%}  a unit"]

    def measure(self, scores: Scores, decoding: Decoding, asked: Asked) -> Numbers:
        """See `transcript_scorecard.measure`."""
        found = transcript_scorecard.measure(scores, _recogniser(decoding), resamples=asked.resamples)
        weights = {name: decoding.facts[name] for name in WEIGHTS if name in decoding.facts}
        return {**found, **weights}

    def predictions(self, all_scores: Sequence[Scores], decoding: Decoding) -> pa.Table:
        """With the normal form of what is really said."""
        return prediction_table(
            self, all_scores, decoding, lambda scores: [normalise(str(cell)) for cell in scores.cells]
        )

    def plots(self, folder: Path, scores: Scores, found: Numbers, decoding: Decoding) -> None:
        """Subsets; nothing is confused, and no probability is calibrated."""
        sheets.write(folder / "confusion.csv", ["actual", "predicted"], [])
        scorecard.write_calibration(folder, None)
        scorecard.write_subsets(folder, found["subsets"], "wer")

    def findings(self, found: Numbers, predictions: pa.Table, decoding: Decoding) -> Numbers:
        """What helps, errors, the farthest off."""
        return transcript_scorecard.told(found, predictions)

    def summary(self, found: Numbers) -> str:
        """WER and CER, and what helps."""
        return transcript_scorecard.summary(found)

    def truth(
        self, rows: Sequence[Mapping[str, Any]], decodings: Sequence[Decoding]
    ) -> tuple[Any, list[str]]:
        """The transcripts' normal forms."""
        return np.array([normalise(str(row["target"])) for row in rows], dtype=object), []

    def given(self, answers: Sequence[Any], labels: Sequence[str]) -> Floats:
        """(N,) texts; None where the model refuses."""
        return np.array([answer.text if answer else None for answer in answers], dtype=object)


WEIGHTS = ("language_weight", "unit_bonus", "context_bonus")


def _ids(target: Tensor) -> tuple[Tensor, Tensor]:
    """Ids (B, L) without a -1 among them, and how many of them count."""
    return target.clamp(min=0), (target >= 0).sum(1)


def _paths(output: Output, here: Tensor) -> list[list[int]]:
    """The likeliest path of each sample that `here` marks."""
    assert output.lengths is not None
    best = zip(output.logits.argmax(2)[here].tolist(), output.lengths[here].tolist(), strict=True)
    return [path[:steps] for path, steps in best]


def _letters(ids: Sequence[int]) -> str:
    """A letter for each unit, one that no normal form changes: so that jiwer counts units."""
    return "".join(chr(0x4E00 + number) for number in ids if number >= 0)


def _told(held: Held, units: Units) -> tuple[list[NDArray[Any]], list[str]]:
    """Logits and texts of the samples that are heard."""
    if held.output.lengths is None:
        return [], []
    steps, logits = held.output.lengths.tolist(), held.output.logits.double().cpu().numpy()
    rows = [row for row, count in enumerate(steps) if count]
    targets = held.target.tolist()
    texts = [units.decode([number for number in targets[row] if number >= 0]) for row in rows]
    return [logits[row, : steps[row]] for row in rows], texts


def _expected(held: Held, units: Units, bonus: float) -> list[Expected | None]:
    """The expected words of the samples that are heard, which have the same say in tuning as later."""
    if not held.words or not bonus or held.output.lengths is None:
        return []
    steps = held.output.lengths.tolist()
    some = [words for words, count in zip(held.words, steps, strict=True) if count]
    return [Expected([words], units, bonus=bonus) if words else None for words in some]


def _recogniser(decoding: Decoding) -> Recogniser:
    """Made once: a language model keeps the contexts that it was asked for."""
    if "recogniser" not in decoding.kept:
        decoding.kept["recogniser"] = recogniser.of(decoding.facts, decoding.arrays)
    found: Recogniser = decoding.kept["recogniser"]
    return found


TASK: Task = Transcription()
