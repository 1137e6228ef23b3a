"""Sections of `params.yaml` about what is read: how pictures, recordings and texts become features."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmpipe.rules import Positive, WeightsSource
from mmpipe.section import Section


class Image(Section):
    """Picture → uint8 pixels."""

    size: Annotated[int, Field(ge=16, le=512)] = 64
    """Side of the square, px."""
    mode: Literal["fast", "exact"] = "fast"
    """`fast` decodes JPEG at a reduced size where that is still large enough."""
    pretrained: WeightsSource | None = None
    """Weights for model.image: pretrained: a folder, package:NAME or hub:OWNER/NAME@COMMIT; null = none."""
    frozen: bool = True
    """true: `extract` makes a vector a sample, which `augment` leaves alone; false: `train` adapts them."""


class Audio(Section):
    """Recording → spectrogram."""

    kind: Literal["log_mel", "mfcc", "stft"] = "log_mel"
    """`mfcc`: cosine transform (DCT-II, orthonormal) of the log-mel; `stft`: plain magnitudes."""

    sample_rate: Annotated[int, Field(ge=4_000, le=96_000)] = 16_000
    """Hz, after resampling."""
    n_fft: Annotated[int, Field(ge=64, le=8_192)] = 400
    """Samples in a Fourier window."""
    hop_length: Annotated[int, Field(ge=16, le=8_192)] = 160
    """Samples from one frame to the next."""
    n_mels: Annotated[int, Field(ge=8, le=256)] = 64
    """Mel bands, of `log_mel` and `mfcc`."""
    n_mfcc: Annotated[int, Field(ge=1, le=256)] = 20
    """Coefficients of `mfcc`, at most n_mels."""
    max_duration_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longer recordings are cut."""
    mode: Literal["fast", "exact"] = "fast"
    """`exact`: torchaudio; `fast`: soxr and a framed FFT (the same within 1e-3, the resampling aside)."""
    pretrained: WeightsSource | None = None
    """Weights for model.audio: pretrained, which read the wave instead of a spectrogram; null = none."""
    frozen: bool = True
    """true: `extract` makes a vector a sample, which `augment` leaves alone; false: `train` adapts them."""

    @model_validator(mode="after")
    def _has_as_many_bands(self) -> Self:
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc is {self.n_mfcc}, and n_mels, of which it is made, only {self.n_mels}")
        return self


class Text(Section):
    """Text → token ids by a byte-pair encoding fitted on the train split."""

    vocab_size: Annotated[int, Field(ge=300, le=100_000)] = 8_000
    """Largest number of tokens; a small corpus gives fewer."""
    max_tokens: Positive = 64
    """Longer texts are cut."""
    turns: Annotated[int, Field(ge=0)] | None = None
    """Of a dialogue so many earlier turns are kept, and of one too long the end; null = texts are no such."""
    lowercase: bool = True
    """Fold capital letters."""
    pretrained: WeightsSource | None = None
    """Weights for model.text: pretrained: a folder, package:NAME or hub:OWNER/NAME@COMMIT; null = none."""
    frozen: bool = True
    """true: `extract` makes a vector a sample, which `augment` leaves alone; false: `train` adapts them."""
