"""Raw inputs → the vectors of a frozen backbone, in batches that change no bit of them.

A batch has one fixed shape: of one number of rows, the last repeated where samples are fewer, and as long as
a sample's own length asks. So a vector is a function of its sample alone, on one kind of CPU and one thread.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmpipe import weights
from mmpipe.blueprint import STEP
from mmpipe.errors import VerificationError
from mmpipe.model import pretrained
from mmpipe.model.pretrained import Backbone

ROWS = {"audio": 1, "image": 4, "text": 8}
"""In a batch; more are not faster on one thread."""


def backbone(made: Mapping[str, Any], source: str, sha256: str) -> Backbone:
    """The backbone of this blueprint, with weights that have this hash.

    Raises VerificationError `weights-changed` for others.
    """
    return _backbone(json.dumps(made, sort_keys=True), source, sha256)


@lru_cache(maxsize=3)
def _backbone(made: str, source: str, sha256: str) -> Backbone:
    found = weights.find(source)
    if found.sha256 != sha256:
        what = f"has sha256 {found.sha256[:12]}, {sha256[:12]} was asked for"
        raise VerificationError("weights-changed", what, where=source)
    return pretrained.load(json.loads(made), found)


def vectors(net: Backbone, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Pictures (H, W, 3), token ids (T,) or waves (samples,) → float32 (N, C), in order."""
    found = np.zeros((len(arrays), net.width), np.float32)
    device = net.mean.device
    for rows, steps in _batches(net.modality, arrays):
        filled = [*rows, *[rows[-1]] * (ROWS[net.modality] - len(rows))]
        lengths = torch.tensor([len(arrays[row]) for row in filled], device=device)
        x = torch.from_numpy(np.stack([_padded(arrays[row], steps) for row in filled])).to(device)
        if net.modality == "image":
            x = x.permute(0, 3, 1, 2)
        with torch.inference_mode():
            found[rows] = net(x, lengths).pooled[: len(rows)].float().cpu().numpy()
    return found


def _batches(modality: str, arrays: Sequence[NDArray[Any]]) -> list[tuple[list[int], int]]:
    """Rows that go together, and the length that they are padded to: only texts are."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, array in enumerate(arrays):
        steps = -(-len(array) // STEP) * STEP if modality == "text" else len(array)
        alike[(steps, *array.shape[1:])].append(row)
    size = ROWS[modality]
    return [
        (rows[start : start + size], shape[0])
        for shape, rows in sorted(alike.items())
        for start in range(0, len(rows), size)
    ]


def _padded(array: NDArray[Any], steps: int) -> NDArray[Any]:
    return np.pad(array, (0, steps - len(array))) if len(array) < steps else array
