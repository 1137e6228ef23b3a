"""Feature tables → device batches; the order is a function of (seed, epoch), never state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpipe import schema, tables, targets
from mmpipe.features import stored
from mmpipe.targets import Coding
from mmpipe.transcripts import units

PAD = 0
"""Token id past the end of a text. Of weights that others trained it may be a token, too."""
DROPPED = -1
"""What stands in the place of a token that training drops: in no vocabulary, read as `PAD`."""
WIDTH_STEP = 16
"""Batches of varying length are padded to a multiple of this: few shapes, so kernels are planned once."""


@dataclass(frozen=True)
class Batch:
    """B samples on one device. Legend: B samples, T frames or tokens, M values a frame, H × W pixels.

    `inputs`: image uint8 (B, 3, H, W) in channels_last memory · audio float16 (B, T, M) · text int32 (B, T);
    zeros past a sample's length; or, of a frozen backbone, one vector a sample, float32 (B, C). Rows of
    absent modalities hold no meaning.
    `lengths`: int64 (B,), frames or tokens (1 for an image, 0 where absent). `present`: bool (B,).
    `target`: (B, …) as `targets.encode` has it, -1 = unknown. `index`: int64 (B,), rows of the dataset.
    `partial`: the modalities that some row lacks.
    """

    inputs: dict[str, Tensor]
    lengths: dict[str, Tensor]
    present: dict[str, Tensor]
    target: Tensor
    index: Tensor
    partial: frozenset[str]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""

        def move(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {m: tensor.to(device, non_blocking=True) for m, tensor in tensors.items()}

        return replace(
            self,
            inputs=move(self.inputs),
            lengths=move(self.lengths),
            present=move(self.present),
            target=self.target.to(device),
            index=self.index.to(device),
        )


@dataclass(frozen=True)
class Column:
    """One modality of N samples, resident: `values` are joined without padding, sample i at `start[i]`.

    `values`: (rows, H, W, 3) or (rows, C), one row a sample, where `fixed`, else (frames, ...). `length`
    0 = absent.
    """

    values: Tensor
    start: Tensor
    length: Tensor
    lengths: NDArray[np.int64]
    fixed: bool

    def gather(self, rows: NDArray[np.int64], index: Tensor) -> Tensor:
        """(B, 3, H, W) or (B, C) or, padded with zeros to the longest, (B, T, ...)."""
        start = self.start.index_select(0, index)
        if self.fixed:
            rows_of = self.values.index_select(0, start)
            return rows_of.permute(0, 3, 1, 2) if rows_of.ndim == 4 else rows_of
        longest = max(int(self.lengths[rows].max()), 1)
        steps = torch.arange(WIDTH_STEP * math.ceil(longest / WIDTH_STEP), device=start.device)
        where = (start[:, None] + steps).clamp_(max=len(self.values) - 1).flatten()
        out = self.values.index_select(0, where)
        out = out.view(len(rows), len(steps), *out.shape[1:])
        past = steps >= self.length.index_select(0, index)[:, None]
        return out.masked_fill_(past.view(*past.shape, *[1] * (out.ndim - 2)), 0)

    def arrays(self) -> list[NDArray[Any]]:
        """The values of each sample."""
        values = self.values.cpu().numpy()
        spans = zip(self.start.tolist(), self.lengths.tolist(), strict=True)
        return [values[start : start + length] for start, length in spans]

    def take(self, rows: NDArray[np.int64]) -> "Column":
        """The same column of fewer samples."""
        lengths, starts = self.lengths[rows], self.start.cpu().numpy()[rows]
        spans = [np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        where = np.concatenate([*spans, np.zeros(0, np.int64)])
        values = self.values[torch.from_numpy(where if len(where) else np.zeros(1, np.int64))]
        start = np.minimum(np.cumsum(lengths) - lengths, len(values) - 1)
        first, length = (torch.from_numpy(part).to(values.device) for part in (start, lengths))
        return Column(values, first, length, lengths, self.fixed)

    def to(self, device: torch.device) -> "Column":
        """The same column on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("values", "start", "length")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Dataset:
    """Every sample of a split in memory. `dropped`: samples left out for want of a feature."""

    ids: list[str]
    target: Tensor
    columns: dict[str, Column]
    facts: dict[str, dict[str, Any]]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> list[str]:
        """Those that at least one sample has, sorted."""
        return [m for m in sorted(self.columns) if self.columns[m].lengths.any()]

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return sum(column.values.nbytes for column in self.columns.values())

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Gather the samples at `rows`, whole, on the device of the dataset."""
        index = torch.from_numpy(rows).to(self.target.device)
        columns = self.columns.items()
        lengths = {m: column.length.index_select(0, index) for m, column in columns}
        return Batch(
            inputs={m: column.gather(rows, index) for m, column in columns},
            lengths=lengths,
            present={m: length > 0 for m, length in lengths.items()},
            target=self.target.index_select(0, index),
            index=index,
            partial=frozenset(m for m, column in columns if not column.lengths[rows].all()),
        )

    def take(self, rows: NDArray[np.int64]) -> "Dataset":
        """The samples at `rows` alone: nothing of the others is left in it."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            target=self.target[torch.from_numpy(rows)],
            columns={m: column.take(rows) for m, column in self.columns.items()},
            dropped=0,
        )

    def moments(self, modality: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel or value of a frame: two float32 (C,)."""
        values = self.columns[modality].values
        flat = values.reshape(-1, values.shape[-1])
        total, square = torch.zeros(2, flat.shape[1], dtype=torch.float64, device=flat.device)
        for part in torch.tensor_split(flat, math.ceil(len(flat) / 65_536)):
            wide = part.double()
            total += wide.sum(0)
            square += wide.square().sum(0)
        mean = total / len(flat)
        deviation = (square / len(flat) - mean.square()).clamp(min=1e-8).sqrt()
        return mean.float(), deviation.float()

    def having(self, modality: str) -> int:
        """How many samples have the modality."""
        return int(self.columns[modality].lengths.astype(bool).sum())

    def containing(self, modality: str, vocabulary: int) -> Tensor:
        """How many samples have each token id: int64 (vocabulary,)."""
        column, counts = self.columns[modality], torch.zeros(vocabulary, dtype=torch.int64)
        for start, length in zip(column.start.tolist(), column.lengths.tolist(), strict=True):
            counts[torch.unique(column.values[start : start + length].long())] += 1
        return counts

    def to(self, device: torch.device) -> "Dataset":
        """The dataset on `device` if at most half of its free memory is needed, else as it is."""
        if device.type == "cuda" and self.nbytes * 2 > torch.cuda.mem_get_info(device)[0]:
            return self
        columns = {m: column.to(device) for m, column in self.columns.items()}
        return replace(self, target=self.target.to(device), columns=columns)


def order(n: int, *, seed: int, epoch: int, balanced: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The permutation of 0 … n - 1 for an epoch: a function of its arguments alone.

    `balanced`: the targets (n,); then n draws in which each class occurs as often as any other, or once more.
    A class's samples take turns: none comes again before all have come.
    """
    chance = np.random.default_rng([seed, epoch])
    if balanced is None:
        return chance.permutation(n).astype(np.int64)
    classes = chance.permutation(np.unique(balanced))
    quotas = [len(part) for part in np.array_split(np.arange(n), len(classes))]
    members = [np.flatnonzero(balanced == c) for c in classes]
    drawn = [_turns(some, quota, chance) for some, quota in zip(members, quotas, strict=True)]
    return chance.permutation(np.concatenate(drawn)).astype(np.int64)


def chunks(rows: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Split into the fewest batches of at most `batch_size`, of sizes that differ by one at most."""
    return np.array_split(rows, max(1, math.ceil(len(rows) / batch_size)))


def load(features: Mapping[str, Path], splits: Path, split: str, *, coding: Coding | None = None) -> Dataset:
    """Join the feature tables of one split by id and hold them in memory.

    `features`: modality → folder of shards. `coding`: of the targets; without it they are -1.
    Raises InvalidError `split-too-few` for a target that is not among the labels.
    """
    table = tables.read(splits, schema.SPLIT)
    table = table.filter(pc.equal(table["split"], split))
    parts = {m: stored.read(folder, table["id"]) for m, folder in sorted(features.items())}
    good = np.ones(len(table), dtype=bool)
    for part in parts.values():
        good &= ~part.failed
    kept = np.flatnonzero(good)
    return Dataset(
        ids=table["id"].take(kept).to_pylist(),
        target=_targets(table["target"].take(kept), coding, splits),
        columns={m: _column(p.values, p.start[kept], p.lengths[kept], p.fixed) for m, p in parts.items()},
        facts={m: part.facts for m, part in parts.items()},
        dropped=int((~good).sum()),
    )


def from_arrays(
    ids: Sequence[str],
    arrays: Mapping[str, Sequence[NDArray[Any] | None]],
    shapes: Mapping[str, Sequence[int]],
) -> Dataset:
    """A dataset of features just computed, for prediction. `shapes`: as in the metadata, -1 = varying."""
    columns = {}
    for modality, items in sorted(arrays.items()):
        some = [item for item in items if item is not None]
        fixed = -1 not in shapes[modality]
        lengths = np.array(
            [0 if item is None else 1 if fixed else len(item) for item in items], dtype=np.int64
        )
        rest = [abs(size) for size in shapes[modality]][0 if fixed else 1 :]
        joined = [item[None] if fixed else item for item in some] or [np.zeros((1, *rest), np.uint8)]
        values = np.concatenate(joined)
        start = np.minimum(np.cumsum(lengths) - lengths, len(values) - 1)
        columns[modality] = _column(values, start, lengths, fixed)
    return Dataset(list(ids), torch.full((len(ids),), -1), columns, {})


def fit_coding(splits: Path, kind: str, *, pieces: str = "characters", most: int = 300) -> Coding:
    """How the targets of the train split become numbers. Raises as `targets.fit` and `units.fit`.

    `pieces`: what texts are made of, one of `units.KINDS`; `most`: so many of them.
    """
    table = tables.read(splits, schema.SPLIT)
    cells = table["target"].filter(pc.equal(table["split"], "train")).to_pylist()
    if kind != "text":
        return targets.fit(kind, cells)
    return targets.fit(kind, cells, units=units.fit(cells, kind=pieces, size=most))


def _turns(members: NDArray[np.int64], quota: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """`quota` of them, all as often as any other or once more."""
    rounds = [chance.permutation(members) for _ in range(math.ceil(quota / len(members)))]
    return np.concatenate([*rounds, members[:0]])[:quota]


def _targets(cells: pa.ChunkedArray, coding: Coding | None, splits: Path) -> Tensor:
    if coding is None:
        return torch.full((len(cells),), -1)
    return torch.from_numpy(targets.encode(coding, cells.to_pylist(), where=str(splits)))


def _column(
    values: NDArray[Any], start: NDArray[np.int64], lengths: NDArray[np.int64], fixed: bool
) -> Column:
    return Column(
        torch.from_numpy(values), torch.from_numpy(start), torch.from_numpy(lengths), lengths, fixed
    )
