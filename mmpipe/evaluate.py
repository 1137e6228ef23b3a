"""Model + held-out samples → the logits of every subset of its modalities; each is encoded once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmpipe import batches, schema, tables
from mmpipe.batches import Dataset
from mmpipe.model.checkpoint import Bundle
from mmpipe.model.encoders import Encoded
from mmpipe.model.network import Network
from mmpipe.scorecard import Scores, subsets_of
from mmpipe.tasks.task import Output, joined


@torch.inference_mode()
def logits(
    model: Network, dataset: Dataset, subsets: Sequence[str], *, batch_size: int
) -> dict[str, NDArray[np.float64]]:
    """{subset: (N, K)}: every modality is encoded once, and fused once a subset with the others hidden.

    Of sequences (N, T, K), NaN past the end of each.
    """
    device = model.device
    dataset = dataset.to(device)
    parts: dict[str, list[Output]] = {subset: [] for subset in subsets}
    for rows in batches.chunks(np.arange(len(dataset)), batch_size) if len(dataset) else []:
        batch = dataset.batch(rows).to(device)
        pooled = model.encode(batch)
        for subset, part in parts.items():
            shown = {m: here & (m in subset.split("+")) for m, here in batch.present.items()}
            part.append(model.decode(pooled, shown)._replace(by_modality={}))
    return {subset: _array(part, model.outputs) for subset, part in parts.items()}


def _array(parts: Sequence[Output], width: int) -> NDArray[np.float64]:
    """The logits of all batches."""
    if not parts:
        return np.zeros((0, width))
    whole = joined(parts)
    found: NDArray[np.float64] = whole.logits.double().cpu().numpy()
    if whole.lengths is not None:
        found[np.arange(found.shape[1]) >= whole.lengths.cpu().numpy()[:, None]] = np.nan
    return found


@torch.inference_mode()
def shuffled(
    model: Network, dataset: Dataset, *, repeats: int, batch_size: int, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """{modality: (repeats, N, …)}: what all modalities say where that one is another sample's.

    Samples are dealt into batches at random, and in each batch a modality is shuffled among those that have
    it: every sample is encoded once.
    """
    device, chance = model.device, np.random.default_rng(seed)
    if not repeats or not len(dataset):
        return {}
    dataset = dataset.to(device)
    order = chance.permutation(len(dataset))
    found: dict[str, list[list[NDArray[np.float64]]]] = {
        m: [[] for _ in range(repeats)] for m in model.modalities
    }
    for rows in batches.chunks(order, batch_size):
        batch = dataset.batch(rows).to(device)
        encoded = model.encode(batch)
        for m, part in found.items():
            here = np.flatnonzero(batch.present[m].cpu().numpy())
            for repeat in part:
                source = np.arange(len(rows))
                source[here] = chance.permutation(here)
                index = torch.from_numpy(source).to(device)
                other = Encoded(*(of.index_select(0, index) for of in encoded[m]))
                said = model.decode({**encoded, m: other}, batch.present).logits
                repeat.append(said.double().cpu().numpy())
    back = np.argsort(order)
    return {m: np.stack([np.concatenate(repeat)[back] for repeat in part]) for m, part in found.items()}


def dealt(scores: Scores, having: NDArray[np.bool_], *, repeats: int, seed: int = 0) -> list[list[str]]:
    """So many times the words of each sample (N,), shuffled among those samples that `having` (N,) marks."""
    chance, here = np.random.default_rng(seed), np.flatnonzero(having)
    found = []
    for _ in range(repeats):
        source = np.arange(len(scores.ids))
        source[here] = chance.permutation(here)
        found.append([scores.words[row] for row in source.tolist()])
    return found


def held_out(bundle: Bundle, features: Mapping[str, Path], splits: Path, split: str) -> Dataset:
    """The samples of one split. `features`: {modality: folder of shards}, of which the model's are read."""
    folders = {m: features[m] for m in bundle.modalities}
    return batches.load(folders, splits, split, coding=bundle.coding)


def score(
    bundle: Bundle, features: Mapping[str, Path], splits: Path, split: str, *, batch_size: int
) -> Scores:
    """The logits of one split for every subset of the model's modalities.

    `features`: {modality: folder of shards}, of which the model's are read.
    """
    dataset = held_out(bundle, features, splits, split)
    rows = {row["id"]: row for row in tables.read(splits, schema.SPLIT).to_pylist()}
    return Scores(
        split=split,
        ids=dataset.ids,
        target=dataset.target.cpu().numpy(),
        group=np.array([rows[name]["group"] for name in dataset.ids]),
        present={m: column.lengths > 0 for m, column in dataset.columns.items()},
        logits=logits(bundle.model, dataset, subsets_of(bundle.modalities), batch_size=batch_size),
        dropped=dataset.dropped,
        cells=[rows[name]["target"] for name in dataset.ids],
        words=bundle.words(dataset.columns["text"].arrays() if "text" in dataset.columns else []),
    )
