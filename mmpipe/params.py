"""`params.yaml` → typed, frozen objects; all mistakes at once, each with file:line:col."""

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mmpipe import sense, yaml_text
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.judging import Evaluate, Gate
from mmpipe.learning import Augment, Objective, Train
from mmpipe.modalities import Audio, Image, Text
from mmpipe.rules import DataPath, Fraction, OneOfN, Positive, Probability
from mmpipe.section import Section, comments, problems
from mmpipe.writing import Decoder, Output
from mmpipe.yaml_text import Key

HEADER = """# yaml-language-server: $schema=params.schema.json
# Every parameter of every stage. `mmpipe params` checks this file; `dvc repro` runs what a change touches.
"""


class Columns(Section):
    """Which column of the manifests holds what; null = there is none."""

    id: str | None = "id"
    """Unique name of a row; null: made from the manifest's name and the row's number."""
    image: str | None = "image"
    """Path of a picture, relative to the manifest's folder."""
    text: str | None = "text"
    """The text itself."""
    text_path: str | None = None
    """Path of a UTF-8 text file (instead of `text`)."""
    history: str | None = None
    """Earlier turns of the dialogue in which the text is the next question: JSON, [[question, answer], …]."""
    audio: str | None = "audio"
    """Path of a recording."""
    target: str | None = "label"
    """What is to be predicted; null where `data.target` is none."""
    group: str | None = None
    """Rows with the same value never lie in two splits."""
    split: str | None = None
    """`train`, `val` or `test`, where the data have their own split."""

    @model_validator(mode="after")
    def _tell_columns_apart(self) -> Self:
        if self.text is not None and self.text_path is not None:
            raise ValueError("text and text_path exclude one another, set one of them to null")
        named = [(key, name) for key, name in self.model_dump().items() if name is not None]
        for (one, name), (other, again) in combinations(named, 2):
            if name == again and {one, other} != {"id", "group"}:
                raise ValueError(f"{one} and {other} are both the column {name!r}, set one of them to null")
        return self


class Data(Section):
    """Where the samples are."""

    manifests: list[DataPath] = Field(default=["data/corpus/manifest.csv"], min_length=1)
    """CSV, JSONL, Parquet, or folders with a subfolder a class; below data/raw or data/corpus."""
    columns: Columns = Columns()
    target: Literal["label", "labels", "number", "text", "none"] = "label"
    """What a target is: one label, labels (with separators, or a JSON list), a number, a text, or none."""
    separator: Annotated[str, Field(min_length=1, max_length=3)] = ";"
    """Between labels, where there are several in a cell."""

    @model_validator(mode="after")
    def _has_its_target(self) -> Self:
        if self.columns.target is None and self.target != "none":
            raise ValueError(f"columns.target: null needs target: none, not {self.target!r}")
        return self


class Ingest(Section):
    """Guards on what strangers made."""

    max_bad_fraction: Probability = 0.05
    """More bad rows than this stop the run with exit status 4."""
    max_file_bytes: Annotated[int, Field(ge=1, le=1 << 31)] = 100_000_000
    """Larger files are quarantined."""
    max_pixels: Annotated[int, Field(ge=1, le=1 << 30)] = 50_000_000
    """Pictures with more pixels are refused before they are decoded."""
    max_duration_s: Annotated[float, Field(gt=0)] = 600.0
    """Longer recordings are quarantined."""
    max_text_chars: Positive = 100_000
    """Longer texts are quarantined."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Time budget to decode one sample."""
    allow_truncated_audio: bool = False
    """Take recordings that are shorter than their header says."""


class Split(Section):
    """Train, validation and test: stratified, grouped, deterministic."""

    seed: int = 0
    """Another seed, another split."""
    test_fraction: OneOfN = 0.2
    """Of all samples: 1/n, n = 2 to 20 (0.5, 0.333333, 0.25, 0.2, …)."""
    val_fraction: Fraction = 0.1
    """Of all samples."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Which of the 1/test_fraction folds is the test split: range over it for cross-validation."""
    near_duplicate_bits: Annotated[int, Field(ge=-1, le=16)] = 8
    """Pictures whose 64-bit perceptual hashes differ in at most so many bits share a group; -1 = any may."""
    group_identical_text: bool = True
    """Samples with the same text (case, space and punctuation apart) share a group."""
    group_identical_target: bool = False
    """The same of targets, where they are texts: no text of the test split is one that was learnt."""

    @model_validator(mode="after")
    def _leaves_samples(self) -> Self:
        if self.test_fraction + self.val_fraction >= 1:
            raise ValueError("test_fraction + val_fraction must leave samples to train on")
        return self


class Model(Section):
    """Encoders × fusion × task."""

    image: Literal["cnn", "resnet", "pretrained", "none"] = "cnn"
    """Encoder of pictures: plain or residual convolutions, or image.pretrained; none = leave them out."""
    text: Literal["gru", "transformer", "pretrained", "words", "none"] = "gru"
    """Encoder of texts: recurrent or a small transformer, or text.pretrained; words = for decoding alone."""
    audio: Literal["cnn", "crnn", "pretrained", "none"] = "cnn"
    """Encoder of sound: convolutions over time; crnn = convolutions, then recurrent; or audio.pretrained."""
    fusion: Literal["concat", "gated", "attention", "lowrank", "average", "weighted", "stacking"] = "concat"
    """How modalities become one: the first four join features, the others join each modality's own answer."""
    task: Literal["classify", "multilabel", "regress", "retrieve", "transcribe", "answer"] = "classify"
    """What is predicted, and by which loss."""
    dim: Annotated[int, Field(ge=8, le=2_048)] = 96
    """Width of each encoded modality."""
    dropout: Fraction = 0.3
    """Share of features dropped before the head in training."""
    rank: Annotated[int, Field(ge=1, le=64)] = 4
    """Of the weights of fusion `lowrank`."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Attention heads of fusion `attention`; they divide dim."""
    output: Output = Output()
    decoder: Decoder = Decoder()

    @property
    def encoders(self) -> list[str]:
        """The modalities that have one."""
        return [m for m in ("audio", "image", "text") if getattr(self, m) != "none"]

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if not self.encoders:
            raise ValueError("at least one encoder is needed: image, text and audio are all 'none'")
        if self.fusion == "attention" and self.dim % self.heads:
            what = f"{self.heads} does not divide {self.dim}"
            raise ValueError(f"heads must divide dim for fusion attention: {what}")
        return self


class Card(Section):
    """The model card, `models/fusion/README.md`."""

    latency: bool = False
    """Time and peak memory by batch size on this machine; then no two runs give a bundle of equal bytes."""
    threads: Positive = 2
    """CPU threads of that timing."""


class Report(Section):
    """`reports/index.html`."""

    examples: Annotated[int, Field(ge=0, le=100)] = 8
    """So many best and so many worst test samples are shown."""
    saliency: Annotated[int, Field(ge=0, le=100)] = 0
    """Of so many of them also where in picture, text and sound the answer comes from: about 2 s each."""


class Params(Section):
    """All of `params.yaml`."""

    corpus: Literal["stamps", "speech", "dialogue", "emoji", "shapes", "none"] = "none"
    """What `fetch` brings; docs/corpora.md says what each holds. shapes is generated; none = nothing."""
    data: Data = Data()
    ingest: Ingest = Ingest()
    split: Split = Split()
    image: Image = Image()
    audio: Audio = Audio()
    text: Text = Text()
    model: Model = Model()
    augment: Augment = Augment()
    objective: Objective = Objective()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    card: Card = Card()
    report: Report = Report()


def load(path: Path) -> Params:
    """Read and check `params.yaml`.

    Raises NotFoundError without the file, else InvalidError that lists every problem, a line each.
    """
    if not path.is_file():
        raise NotFoundError("workspace", "does not exist", where=str(path))
    return _checked(yaml_text.read(path))


def loads(text: str, path: Path) -> Params:
    """Check the text of a `params.yaml`; `path` names it in errors, nothing is read.

    Raises InvalidError that lists every problem, a line each.
    """
    return _checked(yaml_text.parse(text.encode("utf-8", "surrogatepass"), path))


def _checked(document: yaml_text.Document) -> Params:
    """Its values; all that is wrong with them at once."""
    given = document.plain()
    try:
        params = Params.model_validate(given)
        wrong: list[tuple[Key, str]] = [*sense.contradictions(params.model_dump(), given)]
    except ValidationError as error:
        wrong = problems(Params, error)
    if not wrong:
        return params
    found = sorted((document.place(key), words) for key, words in wrong)
    lines = [f"{document.path}:{line}:{column} {words}" for (line, column), words in found]
    what = "\n  ".join(["is not valid:", *lines])
    raise InvalidError("params", what, where=str(document.path))


def render(params: Params) -> str:
    """The text of a `params.yaml` with these values and every key's comment."""
    return HEADER + yaml_text.render(params.model_dump(), comments(Params))


def schema() -> dict[str, Any]:
    """The JSON Schema of `params.yaml`, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
