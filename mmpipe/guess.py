"""What the columns of an unknown table hold, and which sizes suit its samples: for a first `params.yaml`."""

import json
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mmpipe import guess_task
from mmpipe.answers import turns
from mmpipe.errors import InvalidError, SampleError
from mmpipe.files import read_guarded, safe_join
from mmpipe.guess_task import ANSWERS, LOOKED_AT, QUESTIONS, TRANSCRIPTS, is_number
from mmpipe.media import audio, image_header
from mmpipe.media.sniff import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from mmpipe.records import table
from mmpipe.row import Row
from mmpipe.schema import SPLITS

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Cells = Mapping[str, Sequence[str]]
"""Column → its cells that are not empty."""

NAMES = {
    "target": ("label", "labels", "class", "class_name", "target", "category", "y"),
    "id": ("id", "uuid", "uid", "sample_id", "item_id", "key"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "subject", "patient", "speaker", "speaker_id", "client_id", "session"),
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
        "question",
    ),
}
"""Usual names of columns, the likeliest first."""
KINDS = {
    "image": frozenset(e for group in IMAGE_EXTENSIONS.values() for e in group),
    "audio": frozenset(e for group in AUDIO_EXTENSIONS.values() for e in group),
    "text_path": frozenset({".txt", ".md"}),
}
MAX_BYTES = 100_000_000
MOST_TURNS = 10
"""Of a dialogue so many earlier turns are kept, at most."""


def cells(path: Path) -> Cells:
    """The cells of a CSV, JSONL or Parquet file as text. Raises as `records.table.read` does."""
    names = _flat_columns(path) if path.suffix.lower() == ".parquet" else set()
    found = table.read(path, names)
    rows = [record.cells for record in found.records if record.cells is not None]
    return {
        name: [shown for row in rows if (shown := _shown(row.get(name))).strip()]
        for name in found.columns
        if path.suffix.lower() != ".parquet" or name in names
    }


def columns(found: Cells, folder: Path, *, target: str | None = None) -> dict[str, str | None]:
    """`data.columns` for a table whose paths are relative to `folder`. `target` names the target column.

    Raises InvalidError (`manifest-columns`) where no target or no modality is found.
    """
    guess = dict.fromkeys(("id", *KINDS, "text", "history", "target", "group", "split"), None)
    if target is not None and target not in found:
        raise _unclear(f"has no column {target!r}", found)
    guess["target"] = target
    for name, values in found.items():
        kind = _path_kind(values, folder)
        if kind and guess[kind] is None and name != target:
            guess[kind] = name
    guess["history"] = next((name for name in _free(found, guess) if _are_turns(found[name])), None)
    guess |= _question(found, guess)
    for key, usual in NAMES.items():
        if guess[key] is None:
            guess[key] = next((name for name in _free(found, guess, usual) if _fits(key, found[name])), None)
        if key == "target":
            guess[key] = guess[key] or _transcript(found, guess)
    guess["target"] = guess["target"] or _fewest_values(found, _free(found, guess))
    guess["text"] = guess["text"] or _wordiest(found, _free(found, guess))
    return _settled(found, guess)


def _settled(found: Cells, guess: dict[str, str | None]) -> dict[str, str | None]:
    """What cannot stand beside one another is left out; what is lacking is told."""
    if guess["text_path"]:  # one source of texts: files, where most cells name them
        guess["text"] = None
    if guess["target"] is None and guess["text"] and guess["audio"] and not guess["image"]:
        said = guess | {"target": guess["text"], "text": None}  # the only text there is
        guess = said if _is_spoken(found, said) or _fewest_values(found, [guess["text"]]) else guess
    if guess["target"] is None:
        raise _unclear("has no column that looks like a label; name it by --target", found)
    if not any(guess[key] for key in (*KINDS, "text")):
        what = "has no column with texts, or with paths (relative to its folder) of pictures or recordings"
        raise _unclear(what, found)
    if _is_spoken(found, guess):
        guess |= dict.fromkeys(("image", "text", "text_path"))
    if not (guess["text"] or guess["text_path"]):
        guess["history"] = None
    return guess


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
    counts = [len(turns.read(row.history)) for row in rows if row.history]
    most = min(MOST_TURNS, _percentile(counts, 0.95)) if counts else 0
    texts = [turns.latest(row.dialogue(row.text), most) if counts else row.text for row in rows if row.text]
    texts += [str(data, "utf-8", "replace") for data in _looked(rows, "text_path", bytes)]
    if texts:
        tokens = _percentile([len(text) / 3 for text in texts], 0.95)
        words = len({word for text in texts for word in text.lower().split()})
        found["text"] = {
            "max_tokens": next((n for n in (16, 32, 64, 128, 256) if tokens <= n), 512),
            "vocab_size": min(8_000, max(500, round(words, -2))),
            **({"turns": most} if counts else {}),
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
        if 2 <= len(set(found[name])) <= len(found[name]) / 2 and not all(map(is_number, found[name]))
    }
    return min(counts, key=lambda name: counts[name], default=None)


def _wordiest(found: Cells, names: Sequence[str]) -> str | None:
    """The column with the longest texts of two and more words."""
    words = {n: statistics.fmean(len(v.split()) for v in found[n][:LOOKED_AT]) for n in names if found[n]}
    return max((name for name in words if words[name] >= 2), key=lambda name: words[name], default=None)


def _question(found: Cells, guess: Mapping[str, str | None]) -> dict[str, str]:
    """A question and its answer by their names, unless something else is named as the target.

    A column with a usual name of labels goes before them where nothing is there that they can be about.
    """
    asked = [name for name in _free(found, guess, (*QUESTIONS, *NAMES["text"])) if found[name]]
    answers = [guess["target"]] if guess["target"] else _free(found, guess, ANSWERS)
    labelled = _free(found, guess, NAMES["target"]) and not (guess["image"] or guess["audio"])
    if not asked or not answers or answers[0].strip().lower() not in ANSWERS:
        return {}
    return {} if labelled and not guess["target"] else {"text": asked[0], "target": answers[0]}


def _transcript(found: Cells, guess: dict[str, str | None]) -> str | None:
    """What is said in recordings, by its name; with pictures it is one modality of several."""
    if guess["image"] or not guess["audio"]:
        return None
    names = _free(found, guess, TRANSCRIPTS)
    return next((name for name in names if _is_spoken(found, guess | {"target": name})), None)


def _is_spoken(found: Cells, guess: Mapping[str, str | None]) -> bool:
    return guess_task.of(guess, found[guess["target"] or ""]) == "transcribe"


def _are_turns(values: Sequence[str]) -> bool:
    """Whether the first cells are earlier turns of dialogues, and not all of them none."""
    try:
        read = [turns.read(value) for value in values[:LOOKED_AT]]
    except ValueError:
        return False
    return any(read)


def _looked(rows: Sequence[Row], key: str, look: Callable[[bytes], T]) -> list[T]:
    """What `look` says about the first files of a modality; bad files are ingest's business."""
    found = []
    for row in [row for row in rows if getattr(row, key)][:LOOKED_AT]:
        try:
            found.append(look(read_guarded(row.path_of(getattr(row, key)), max_bytes=MAX_BYTES)))
        except SampleError:
            continue
    return found


def _percentile(values: Sequence[Number], share: float) -> Number:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _shown(cell: Any) -> str:
    """A cell as text; of JSONL a list as JSON."""
    if cell is None:
        return ""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else str(cell)


def _unclear(what: str, found: Cells) -> InvalidError:
    return InvalidError("manifest-columns", f"{what}; its columns are {', '.join(map(repr, found))}")
