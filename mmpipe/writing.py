"""Section of `params.yaml` about text that is predicted: what it is made of, and how outputs become words."""

from typing import Annotated, Literal

from pydantic import Field

from mmpipe.section import Section


class Output(Section):
    """Text that is predicted, of `data.target: text`."""

    units: Literal["characters", "bpe"] = "characters"
    """What it is made of; `bpe`: pieces of words, a byte-pair encoding of the train split's targets."""
    max_units: Annotated[int, Field(ge=10, le=20_000)] = 300
    """Largest number of pieces; all characters are always among them."""
    decoding: Literal["greedy", "beam"] = "beam"
    """`greedy`: the likeliest unit each time; `beam`: the likeliest text of those that are followed."""
    width: Annotated[int, Field(ge=1, le=1_024)] = 32
    """So many texts are followed at a time."""
    order: Annotated[int, Field(ge=0, le=10)] = 5
    """Of the n-gram language model of the train split's targets, in units; 0 = none."""
    language_weight: Annotated[float, Field(ge=0)] | None = None
    """Of the language model's log-probability beside what is heard; null: the best on the val split."""
    unit_bonus: float | None = None
    """Added for each unit, as a language model favours short texts, nats; null: the best on the val split."""
    context_bonus: Annotated[float, Field(ge=0)] = 1.0
    """Added for each character of a word that the sample's text has (model.text: words), nats."""


class Decoder(Section):
    """Of task `answer`: what writes the answer, in the units of model.output."""

    layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Of the transformer."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Of its attention; they divide model.dim."""
    longest: Annotated[int, Field(ge=1, le=1_024)] = 32
    """Most units of an answer."""
    search: Literal["greedy", "beam", "closed"] = "greedy"
    """`greedy`: the likeliest unit each time; `beam`: see width; `closed`: the likeliest answer of train."""
    width: Annotated[int, Field(ge=1, le=256)] = 4
    """So many unfinished answers a beam follows, and so many are told, of a closed set, too."""
