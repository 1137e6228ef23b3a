"""The samples a person looks at first: the surest right and wrong ones, with all that they hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmpipe import embed
from mmpipe.errors import SampleError

PICTURE_SIDE = 224
MAX_SOUND_BYTES = 150_000
"""Of one recording; longer ones are named, not embedded."""
SOUND_BUDGET = 1_500_000
"""Bytes of all recordings in one gallery: two galleries stay below 4 MB in base64."""


@dataclass(frozen=True)
class Exhibit:
    """One sample. `picture` and `sound` are data URIs; a `*_note` says why a file is not shown."""

    id: str
    target: str
    prediction: str
    confidence: float
    text: str | None
    picture: str | None
    picture_note: str | None
    sound: str | None
    sound_note: str | None


def choose(predictions: pa.Table, samples: pa.Table, root: Path, *, right: bool, count: int) -> list[Exhibit]:
    """The `count` test samples that were predicted rightly (or wrongly) with the highest confidence.

    Paths in `samples` are relative to `root`.
    """
    test = predictions.filter(pc.equal(predictions["split"], "test"))
    same = pc.equal(test["prediction"], test["target"])
    chosen = test.filter(same if right else pc.invert(same)).to_pylist()
    chosen = sorted(chosen, key=lambda row: (-row["confidence"], row["id"]))[:count]
    wanted = pa.array([row["id"] for row in chosen], pa.string())
    facts = {row["id"]: row for row in samples.filter(pc.is_in(samples["id"], wanted)).to_pylist()}
    shown, left = [], SOUND_BUDGET
    for row in chosen:
        exhibit = _exhibit(row, facts[row["id"]], root, max_bytes=min(MAX_SOUND_BYTES, left))
        left -= 0 if exhibit.sound is None else len(exhibit.sound) * 3 // 4
        shown.append(exhibit)
    return shown


def _exhibit(row: dict[str, Any], sample: dict[str, Any], root: Path, *, max_bytes: int) -> Exhibit:
    picture = sound = picture_note = sound_note = None
    if sample["image_path"] is not None:
        try:
            picture = embed.picture(root / sample["image_path"], side=PICTURE_SIDE)
        except SampleError as error:
            picture_note = error.what
    if sample["audio_path"] is not None:
        try:
            sound = embed.sound(root / sample["audio_path"], max_bytes=max_bytes)
        except SampleError as error:
            sound_note = f"{sample['audio_path']}: {error.what}"
    return Exhibit(
        id=row["id"],
        target=row["target"],
        prediction=row["prediction"],
        confidence=row["confidence"],
        text=sample["text"],
        picture=picture,
        picture_note=picture_note,
        sound=sound,
        sound_note=sound_note,
    )
