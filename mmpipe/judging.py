"""Sections of `params.yaml` about judging a model: how it is evaluated, and what the gate asks of it."""

from typing import Annotated, Literal

from pydantic import Field

from mmpipe.rules import Positive, Probability
from mmpipe.section import Section


class Evaluate(Section):
    """What is measured, and how surely."""

    bootstrap: Annotated[int, Field(ge=10, le=100_000)] = 1_000
    """Resamples for each 95 % interval."""
    calibration_bins: Annotated[int, Field(ge=2, le=100)] = 15
    """Of the expected calibration error."""
    permutations: Annotated[int, Field(ge=0, le=100)] = 10
    """How often each modality is shuffled to see what is lost; 0 = never. Of texts less often."""
    batch_size: Positive = 256
    """Samples at once."""
    threads: Positive = 2
    """CPU threads: part of the result, because they order its sums."""


class Gate(Section):
    """What a new model must show to take the champion's place: `mmpipe gate`."""

    metric: str = "auto"
    """What must be better on the test samples; auto: the task's own first figure, such as accuracy."""
    rule: Literal["better", "not_worse"] = "better"
    """`better`: shown to gain more than min_gain; `not_worse`: not shown to gain less, so equals may pass."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Largest chance that the rule shows what is not so."""
    min_gain: float = 0.0
    """A share (of nll: nats, of errors: the target's unit); below 0, a loss that is allowed."""
    guard_alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Largest chance that a guard (recall, calibration) refuses a model for a change that is none."""
    max_recall_drop: Probability = 0.1
    """No class's recall may fall by more, where chance does not explain it."""
    max_ece_rise: Probability = 0.05
    """The expected calibration error may not rise by more, where chance does not explain it."""
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = 1.5
    """Time a sample, in multiples of the champion's; null = any."""
    max_size_ratio: Annotated[float, Field(gt=0)] | None = 2.0
    """Size of the bundle, in multiples of the champion's; null = any."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 5_000
    """Of the bootstrap and of the swap test."""
