"""What the columns of an unknown table hold, and which sizes suit its samples: for a first `params.yaml`."""

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mmpipe.errors import InvalidError, SampleError
from mmpipe.files import read_guarded, safe_join
from mmpipe.media import audio, image_header
from mmpipe.media.sniff import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from mmpipe.records import table
from mmpipe.row import Row
from mmpipe.schema import SPLITS

T = TypeVar("T")
Cells = Mapping[str, Sequence[str]]
"""Column → its cells that are not empty."""

NAMES = {
    "target": ("label", "labels", "class", "class_name", "target", "category", "y"),
    "id": ("id", "uuid", "uid", "sample_id", "item_id", "key"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "subject", "patient", "speaker", "session"),
    "text": (
        "text",
        "caption",
        "description",
        "sentence",
        "transcript",
        "utterance",
        "title",
        "body",
        "comment",
    ),
}
"""Usual names of columns, the likeliest first."""
KINDS = {
    "image": frozenset(e for group in IMAGE_EXTENSIONS.values() for e in group),
    "audio": frozenset(e for group in AUDIO_EXTENSIONS.values() for e in group),
    "text_path": frozenset({".txt", ".md"}),
}
LOOKED_AT = 200
"""So many cells of a column, and so many files of a modality, are looked at."""
MAX_BYTES = 100_000_000
FEW = 10
"""So many different numbers may still be the names of classes."""


def cells(path: Path) -> Cells:
    """The cells of a CSV, JSONL or Parquet file as text. Raises as `records.table.read` does."""
    names = _flat_columns(path) if path.suffix.lower() == ".parquet" else set()
    found = table.read(path, names)
    rows = [record.cells for record in found.records if record.cells is not None]
    return {
        name: [
            str(row[name]) for row in rows if str(row.get(name) if row.get(name) is not None else "").strip()
        ]
        for name in found.columns
        if path.suffix.lower() != ".parquet" or name in names
    }


def columns(found: Cells, folder: Path, *, target: str | None = None) -> dict[str, str | None]:
    """`data.columns` for a table whose paths are relative to `folder`. `target` names the label column.

    Raises InvalidError (`manifest-columns`) where no label or no modality is found.
    """
    guess = dict.fromkeys(("id", *KINDS, "text", "target", "group", "split"), None)
    if target is not None and target not in found:
        raise _unclear(f"has no column {target!r}", found)
    guess["target"] = target
    for name, values in found.items():
        kind = _path_kind(values, folder)
        if kind and guess[kind] is None and name != target:
            guess[kind] = name
    for key, usual in NAMES.items():
        if guess[key] is None:
            guess[key] = next((name for name in _free(found, guess, usual) if _fits(key, found[name])), None)
    guess["target"] = guess["target"] or _fewest_values(found, _free(found, guess))
    guess["text"] = guess["text"] or _wordiest(found, _free(found, guess))
    if guess["text_path"]:  # one source of texts: files, where most cells name them
        guess["text"] = None
    if guess["target"] is None:
        raise _unclear("has no column that looks like a label; name it by --target", found)
    if not any(guess[key] for key in (*KINDS, "text")):
        what = "has no column with texts, or with paths (relative to its folder) of pictures or recordings"
        raise _unclear(what, found)
    return guess


def task(values: Sequence[str]) -> dict[str, dict[str, object]]:
    """Sections of params that fit a target column: many numbers, some with a fraction, are a regression."""
    numbers = [float(value) for value in values] if all(map(_is_number, values)) else []
    if not any(number % 1 for number in numbers) or len(set(numbers)) <= FEW:
        return {}
    return {"data": {"target": "number"}, "model": {"task": "regress"}, "train": {"label_smoothing": 0.0}}


def sizes(rows: Sequence[Row]) -> dict[str, dict[str, int | float]]:
    """`image`, `audio` and `text` parameters that suit the samples; only where samples were readable."""
    found: dict[str, dict[str, int | float]] = {}
    if sides := _looked(rows, "image", lambda data: min(image_header.read(data).shown)):
        side = statistics.median(sides)
        found["image"] = {"size": 32 if side < 48 else 64 if side < 256 else 96}
    if seconds := _looked(rows, "audio", lambda data: audio.inspect(data).duration_s):
        longest = _percentile(seconds, 0.95)
        found["audio"] = {
            "max_duration_s": next((s for s in (1.0, 2.0, 5.0, 10.0, 20.0) if longest <= s), 30.0)
        }
    texts = [row.text for row in rows if row.text]
    texts += [str(data, "utf-8", "replace") for data in _looked(rows, "text_path", bytes)]
    if texts:
        tokens = _percentile([len(text) / 3 for text in texts], 0.95)
        words = len({word for text in texts for word in text.lower().split()})
        found["text"] = {
            "max_tokens": next((n for n in (16, 32, 64, 128, 256) if tokens <= n), 512),
            "vocab_size": min(8_000, max(500, round(words, -2))),
        }
    return found


def _flat_columns(path: Path) -> set[str]:
    """Columns of a Parquet file that hold text or numbers."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidError("manifest-format", f"is no readable Parquet ({error})", where=str(path)) from None
    flat = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return {
        field.name
        for field in schema
        if any(test(field.type) for test in (*flat, pa.types.is_boolean, pa.types.is_dictionary))
    }


def _path_kind(values: Sequence[str], folder: Path) -> str | None:
    """The modality whose files most cells name; None where most are no paths of existing files."""
    looked = values[:LOOKED_AT]
    kinds = [_file_kind(value, folder) for value in looked]
    for kind in KINDS:
        if looked and kinds.count(kind) * 2 > len(looked):
            return kind
    return None


def _file_kind(value: str, folder: Path) -> str | None:
    kind = next((kind for kind, suffixes in KINDS.items() if Path(value).suffix.lower() in suffixes), None)
    try:
        return kind if kind and safe_join(folder, value).is_file() else None
    except (SampleError, OSError):
        return None


def _free(found: Cells, guess: Mapping[str, str | None], usual: Collection[str] | None = None) -> list[str]:
    """Columns not yet given a meaning; with `usual` only those of these names, in that order."""
    free = [name for name in found if name not in guess.values()]
    if usual is None:
        return free
    return [name for wanted in usual for name in free if name.strip().lower() == wanted]


def _fits(key: str, values: Sequence[str]) -> bool:
    if key == "id":
        return len(set(values)) == len(values)
    if key == "split":
        return set(values) <= set(SPLITS)
    return key == "target" or bool(values)


def _fewest_values(found: Cells, names: Sequence[str]) -> str | None:
    """The column of words with the fewest different values, of which most come more than once."""
    counts = {
        name: len(set(found[name]))
        for name in names
        if 2 <= len(set(found[name])) <= len(found[name]) / 2 and not all(map(_is_number, found[name]))
    }
    return min(counts, key=lambda name: counts[name], default=None)


def _wordiest(found: Cells, names: Sequence[str]) -> str | None:
    """The column with the longest texts of two and more words."""
    words = {n: statistics.fmean(len(v.split()) for v in found[n][:LOOKED_AT]) for n in names if found[n]}
    return max((name for name in words if words[name] >= 2), key=lambda name: words[name], default=None)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _looked(rows: Sequence[Row], key: str, look: Callable[[bytes], T]) -> list[T]:
    """What `look` says about the first files of a modality; bad files are ingest's business."""
    found = []
    for row in [row for row in rows if getattr(row, key)][:LOOKED_AT]:
        try:
            found.append(look(read_guarded(row.path_of(getattr(row, key)), max_bytes=MAX_BYTES)))
        except SampleError:
            continue
    return found


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _unclear(what: str, found: Cells) -> InvalidError:
    return InvalidError("manifest-columns", f"{what}; its columns are {', '.join(map(repr, found))}")
