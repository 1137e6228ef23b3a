"""What TensorBoard shows of a training beside its curves: its parameters, figures, samples and answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mmpipe import batches, evaluate
from mmpipe.model.checkpoint import Bundle
from mmpipe.terminal import printable

COUNT = 8
"""Samples shown, spread evenly over the validation split."""
_MAX_WORDS = 500
_NO_TEXT = "none"


def show(
    folder: Path,
    bundle: Bundle,
    val: batches.Dataset,
    *,
    truths: Mapping[str, str | None],
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
) -> None:
    """Add to a run's folder: its `settings`, one level of keys, its `figures`, and some of `val`.

    A setting that is null is left out: TensorBoard has one type for a key. `truths`: the target of each
    sample as its cell has it. Samples are shown as the network takes them: pixels, a spectrogram, tokens; of
    a frozen backbone's vector nothing. No chance, no change of the model.
    """
    step = int(figures["best_epoch"])
    numbers = {f"final/{name}": float(value) for name, value in figures.items() if name.startswith("val_")}
    plain = {name: _plain(value) for name, value in settings.items() if value is not None}
    with SummaryWriter(str(folder)) as writer:
        _, start, end = hparams(plain, numbers)  # the first is of an experiment whose runs are all known
        for summary in (start, end):
            writer.file_writer.add_summary(summary)
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        some = val.take(np.unique(np.linspace(0, len(val) - 1, COUNT).astype(np.int64))) if len(val) else val
        texts = _texts(bundle, some)
        for row, lines in _answers(bundle, some).items():
            tag, name = f"samples/{row + 1}", some.ids[row]
            writer.add_text(tag, _told(name, truths.get(name), texts[row], lines), step)
            for modality, pixels in _pictures(some, row).items():
                writer.add_image(f"{tag}/{modality}", pixels, step, dataformats="HWC")


def _plain(value: Any) -> bool | int | float | str:
    """A parameter as TensorBoard takes it."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _answers(bundle: Bundle, some: batches.Dataset) -> dict[int, list[str]]:
    """{row: what the model says of it, for people}; of a sample without what the task needs, nothing."""
    if not len(some):
        return {}
    task, names = bundle.task, bundle.modalities
    here = {m: some.columns[m].lengths > 0 for m in names}
    given = [[m for m in names if here[m][row]] for row in range(len(some))]
    outputs = evaluate.logits(bundle.model, some, task.asks(names), batch_size=COUNT)
    words = bundle.words(some.columns["text"].arrays() if "text" in some.columns else [])
    said = task.says(outputs, given, bundle.decoding, words)
    used = {"model": "", "bundle_sha256": bundle.digest}
    return {
        row: task.lines(task.answer(**said[row], modalities=tuple(have), **used))
        for row, have in enumerate(given)
        if task.needs <= {*have}
    }


def _told(name: str, truth: str | None, text: str | None, words: list[str]) -> str:
    """Markdown; all that strangers wrote is in code spans, where nothing of it means anything."""
    lines = [f"**id** {_code(name)}", f"**truth** {_code(truth or '')}", f"**said** {_code(words[0])}"]
    lines += [f"- {_code(line.strip())}" for line in words[1:]]
    return "\n\n".join([*lines, *([f"**text** {_code(text)}"] if text is not None else [])])


def _code(words: str) -> str:
    cut = printable(words[:_MAX_WORDS]).replace("`", "'").strip()
    return f"`{cut}`" if cut else _NO_TEXT


def _texts(bundle: Bundle, some: batches.Dataset) -> list[str | None]:
    """The words that each sample's tokens stand for; None where there are none."""
    column = some.columns.get("text")
    if bundle.tokenizer is None or column is None or column.fixed:
        return [None] * len(some)
    tokenizer = Tokenizer.from_str(bundle.tokenizer)
    return [tokenizer.decode(ids.tolist()) if len(ids) else None for ids in column.arrays()]


def _pictures(some: batches.Dataset, row: int) -> dict[str, NDArray[np.uint8]]:
    """uint8 (H, W, 3) of the image, (H, W, 1) of the sound, low bands below."""
    found: dict[str, NDArray[np.uint8]] = {}
    for modality in ("image", "audio"):
        column = some.columns.get(modality)
        if column is None or not column.lengths[row]:
            continue
        values = column.arrays()[row]
        if modality == "image" and column.values.ndim == 4:
            found[modality] = values[0].astype(np.uint8)
        elif modality == "audio" and column.values.ndim == 2 and not column.fixed:
            found[modality] = _spectrogram(values.astype(np.float32))
    return found


def _spectrogram(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(T, M) → (M, T, 1), the quietest value black and the loudest white."""
    low, high = float(frames.min()), float(frames.max())
    shades = (frames - low) / max(high - low, 1e-6) * 255
    return shades.T[::-1, :, None].round().astype(np.uint8)
