"""Sections of `params.yaml` about learning: random changes of the samples, the objective, the loop."""

from typing import Annotated, Literal

from pydantic import Field

from mmpipe.rules import Fraction, Positive, Probability
from mmpipe.section import Section


class Augment(Section):
    """Random changes of the training samples, made on the device."""

    image_flip: Probability = 0.5
    """Chance of a left-right flip."""
    image_crop: Fraction = 0.15
    """Largest relative zoom, and largest shift in half sides."""
    image_rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest angle, degrees."""
    image_color: Fraction = 0.25
    """Largest relative change of brightness, contrast and saturation."""
    image_hue: Fraction = 0.1
    """Largest relative change of each colour channel."""
    image_erase: Probability = 0.0
    """Chance that a square of 0.4 sides becomes the mean colour."""
    audio_gain: Annotated[float, Field(ge=0)] = 0.3
    """Standard deviation of the loudness and of its tilt over the bands, in units of the log-mel."""
    audio_stretch: Fraction = 0.1
    """Largest relative change of tempo; where weights read the wave, of tempo and pitch."""
    audio_time_mask: Fraction = 0.3
    """Largest share of the frames under the two SpecAugment masks; of a wave, of two silent spans."""
    audio_mel_mask: Fraction = 0.3
    """Largest share of the bands under the two SpecAugment masks; not of `mfcc`, which has no bands."""
    token_dropout: Fraction = 0.1
    """Chance that a token is hidden."""


class Objective(Section):
    """What is learned: losses beside the task's own, and what is done about rare classes."""

    contrastive: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a loss that brings the encoded modalities of a sample together (symmetric InfoNCE)."""
    temperature: Annotated[float, Field(ge=0.001)] = 0.1
    """By which that loss divides cosines."""
    weights: Literal["fixed", "uncertainty"] = "fixed"
    """`uncertainty`: the weights of all losses are learned from where they are set (Kendall et al. 2018)."""
    focal: Annotated[float, Field(ge=0, le=10)] = 0.0
    """γ: a sample's loss times (1 - the chance of its class) ** γ (Lin et al. 2017); 0 = as it is."""
    logit_adjustment: Annotated[float, Field(ge=0, le=10)] = 0.0
    """τ: learn as if classes were equally frequent (Menon et al. 2021, with τ = 1); 0 = as they are."""


class Budget(Section):
    """What the model may cost; more is refused before training. null = any."""

    parameters: Positive | None = None
    """Weights, those of frozen backbones, too."""
    multiply_adds: Positive | None = None
    """Of one prediction from the largest sample."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Of one prediction from the largest sample, on this machine, by its `threads`."""


class Train(Section):
    """The optimisation loop."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the first weights, the order and every random change."""
    epochs: Positive = 60
    """At most."""
    patience: Positive | None = 20
    """Stop after so many epochs without a better validation loss; null = do all and keep the last weights."""
    batch_size: Positive = 32
    """Samples a step."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate."""
    pretrained_lr: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of `lr` at which pretrained weights that are not frozen learn."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of AdamW; biases and norms have none."""
    warmup_fraction: Fraction = 0.1
    """Share of all steps in which the rate rises to `lr`; then it falls as a cosine."""
    label_smoothing: Fraction = 0.1
    """Probability given to the other classes."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Weight of a class in the loss by its frequency in the train split."""
    regression: Literal["huber", "mse"] = "huber"
    """Loss of a number, in standard deviations: huber is squared up to one and then linear."""
    sampling: Literal["natural", "balanced"] = "natural"
    """`balanced`: each class is drawn equally often in an epoch, of as many samples."""
    modality_dropout: Fraction = 0.3
    """Chance that a training sample's modality is hidden (one always stays)."""
    auxiliary: Annotated[float, Field(ge=0)] = 0.5
    """Weight of each modality's own loss beside the fused one; fusion `stacking` has no other."""
    stacking_folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Fusion `stacking` trains so many more models, each without a fold of the train split."""
    ema: Fraction = 0.99
    """Decay of the running mean of the weights, which is then the model; 0 = the weights themselves."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Larger gradients are scaled down to this norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where the hardware multiplies it."""
    threads: Positive = 2
    """CPU threads: part of the result, because they order its sums."""
    deterministic: bool = True
    """The same weights again on the same kind of device; false may be faster on a GPU."""
    checkpoint_steps: Positive = 50
    """Also at the end of each epoch."""
    budget: Budget = Budget()
