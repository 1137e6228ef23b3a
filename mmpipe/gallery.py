"""The samples a person looks at first: the best and the worst ones, with all that they hold."""

from collections.abc import Mapping, Sequence
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
    """One sample. `said`: of it, `note`: how surely, `actual`: what is true where that is another.

    `picture` and `sound` are data URIs; a `*_note` says why a file is not shown.
    """

    id: str
    said: str
    note: str
    actual: str | None
    text: str | None
    picture: str | None
    picture_note: str | None
    sound: str | None
    sound_note: str | None


def choose(items: Sequence[Mapping[str, Any]], samples: pa.Table, root: Path, *, count: int) -> list[Exhibit]:
    """The first `count` of `items`, as `findings.exhibit` makes them, with all that their samples hold.

    Paths in `samples` are relative to `root`.
    """
    chosen = items[:count]
    wanted = pa.array([item["id"] for item in chosen], pa.string())
    facts = {row["id"]: row for row in samples.filter(pc.is_in(samples["id"], wanted)).to_pylist()}
    shown, left = [], SOUND_BUDGET
    for item in chosen:
        exhibit = _exhibit(item, facts[item["id"]], root, max_bytes=min(MAX_SOUND_BYTES, left))
        left -= 0 if exhibit.sound is None else len(exhibit.sound) * 3 // 4
        shown.append(exhibit)
    return shown


def _exhibit(item: Mapping[str, Any], sample: dict[str, Any], root: Path, *, max_bytes: int) -> Exhibit:
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
        id=item["id"],
        said=item["said"],
        note=item["note"],
        actual=item["actual"],
        text=sample["text"],
        picture=picture,
        picture_note=picture_note,
        sound=sound,
        sound_note=sound_note,
    )
