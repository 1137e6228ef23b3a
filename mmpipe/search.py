"""A query of any modality against an index: a Parquet table of embeddings that the same model made."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmpipe import schema, tables
from mmpipe.errors import InvalidError, UsageError
from mmpipe.metrics import Floats
from mmpipe.predict import Predictor
from mmpipe.preprocess import Sample

AGAIN = "make it anew: mmpipe predict TABLE -o INDEX.parquet"


@dataclass(frozen=True)
class Hit:
    """A row of the index. `modality`: of it that was found; `similarity`: cosine, -1 to 1."""

    id: str
    modality: str
    similarity: float


@dataclass(frozen=True)
class Index:
    """`embeddings`: {modality: ids and (N, E) vectors of length 1}, of the rows that have it."""

    embeddings: dict[str, tuple[list[str], Floats]]


def read(path: Path, predictor: Predictor) -> Index:
    """What `mmpipe predict TABLE -o INDEX.parquet` wrote with this very model.

    Raises NotFoundError or VerificationError as `tables.read`, UsageError for a model of another task,
    InvalidError `index-format` for another table, `index-foreign` for the index of another model.
    """
    if predictor.bundle.task_name != "retrieve":
        what = f"{predictor.name} is a model of {predictor.bundle.task_name}, which has no embeddings"
        raise UsageError("usage", what, fix="give --model a model that was trained with model.task: retrieve")
    table = tables.read(path)
    names = {m: f"embedding_{m}" for m in schema.MODALITIES if f"embedding_{m}" in table.column_names}
    if not names or not {"id", "model", "bundle_sha256"} <= set(table.column_names):
        raise InvalidError("index-format", "is no table of embeddings", where=str(path))
    makers = sorted({(m, d) for m, d in zip(*_makers(table), strict=True) if d is not None})
    for model, digest in makers:
        if digest != predictor.bundle.digest:
            own = f"{predictor.name} ({predictor.bundle.digest[:12]})"
            what = f"was made by {model} ({digest[:12]}), this is {own}"
            raise InvalidError("index-foreign", what, where=str(path), fix=AGAIN)
    return Index({m: _column(table, name) for m, name in names.items()})


def search(
    predictor: Predictor, index: Index, query: Sample, *, of: str | None = None, top: int = 5
) -> list[Hit]:
    """The rows most similar to the query, the best first; each once, by the modality that is nearest.

    `of`: the modality to look in; None = every one that the query itself does not have, if there is such.
    Several modalities of a query are looked for together. Raises as `Predictor.predict`, and UsageError for
    a modality that the index lacks.
    """
    found = predictor.predict(image=query.image, text=query.text, audio=query.audio)
    places = (
        [of] if of else [m for m in index.embeddings if m not in found.modalities] or list(index.embeddings)
    )
    if lacking := [m for m in places if m not in index.embeddings]:
        what = f"the index has {', '.join(index.embeddings)}, not {lacking[0]}"
        raise UsageError("usage", what, fix="choose one of these for --of")
    vector = np.asarray(vars(found)["embedding"], np.float64)
    best: dict[str, Hit] = {}
    for modality in places:
        ids, vectors = index.embeddings[modality]
        for name, similarity in zip(ids, (vectors @ vector).tolist(), strict=True):
            if name not in best or similarity > best[name].similarity:
                best[name] = Hit(name, modality, similarity)
    return sorted(best.values(), key=lambda hit: (-hit.similarity, hit.id))[:top]


def _makers(table: pa.Table) -> tuple[list[str | None], list[str | None]]:
    return table["model"].to_pylist(), table["bundle_sha256"].to_pylist()


def _column(table: pa.Table, name: str) -> tuple[list[str], Floats]:
    """The ids and vectors of the rows that have one."""
    some = table.filter(table[name].is_valid())
    width = table.schema.field(name).type.list_size
    values = some[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return some["id"].to_pylist(), values.astype(np.float64).reshape(len(some), width)
