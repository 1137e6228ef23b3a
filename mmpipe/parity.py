"""How far apart a bundle and the ONNX files made of it answer, on the same samples, and how fast."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpipe import evaluate, exported, metrics, paired, testset, trial
from mmpipe.errors import InvalidError
from mmpipe.exported import Exported, Outputs
from mmpipe.predict import Predictor
from mmpipe.preprocess import Features, Refusal
from mmpipe.tasks.task import Prediction, fullest

TOLERANCE = 1e-4
"""Largest difference between numbers of the bundle and of the file, in multiples of the largest of them, or
of 1 where that is less. Float32 rounds a network of some layers to about 1e-6."""
MADE, LONGEST = 48, 64
"""Samples that are generated, and their most frames and tokens."""
SIZES, ROUNDS, RESAMPLES, BATCH = (1, 32), 10, 2_000, 32
AGREE = ("label", "labels", "text")
"""Kinds of targets whose answers are the same or not."""
Answers = Sequence[Prediction]


@dataclass(frozen=True)
class Samples:
    """What is compared: features, as the extractors make them.

    `rows`: of `schema.SAMPLES`, for samples of a test split; else there are none.
    """

    features: list[Features]
    rows: list[dict[str, Any]]
    groups: list[str]


def generated(predictor: Predictor) -> Samples:
    """Random features of every shape there can be: lengths from 1 on, any modalities present, or none."""
    rng, known = np.random.default_rng(0), predictor.bundle
    makers = {m: _maker(m, predictor, rng) for m in known.modalities}
    features = [{m: make() for m, make in makers.items() if rng.random() < 0.75} for _ in range(MADE)]
    return Samples(features, [], [])


def test_split(predictor: Predictor, workspace: Path | None) -> Samples | None:
    """The test split's samples that the model takes, read from their files; None without any."""
    if workspace is None:
        return None
    held = testset.read(workspace)
    found = map(predictor.trusting().preprocessor.features, trial.raw(workspace, held.rows))
    some = [
        (one, row, group)
        for one, row, group in zip(found, held.rows, held.groups, strict=True)
        if not isinstance(one, Refusal)
    ]
    if not some:
        return None
    features, rows, groups = (list(part) for part in zip(*some, strict=True))
    return Samples(features, rows, groups)


def numbers(predictor: Predictor, files: Exported, samples: Samples) -> tuple[Outputs, Outputs]:
    """What the bundle and the files say of the subsets of modalities that an answer needs, to be compared."""
    subsets = predictor.bundle.task.asks(predictor.modalities)
    before = exported.numbers(predictor, samples.features, subsets, batch_size=BATCH)
    return before, files.numbers(samples.features, subsets, batch_size=BATCH - 1)


def hold(before: Outputs, after: Outputs) -> None:
    """Raise InvalidError `export-differs` where numbers are not the same but for rounding."""
    found, allowed = _apart(before, after), TOLERANCE * max(1.0, _largest(before))
    if not found <= allowed:  # nor what is no number
        what = f"{found:.2g} from the bundle's, {allowed:.2g} is allowed"
        number = len(fullest(before))
        raise InvalidError("export-differs", f"the file's numbers for {number} samples are up to {what}")


def answers(predictor: Predictor, files: Exported, samples: Samples) -> tuple[Answers, Answers]:
    """The predictions of the bundle and of the files."""
    subsets = predictor.bundle.task.asks(predictor.modalities)
    read = exported.read(predictor, samples.features, raw={})
    before = evaluate.logits(predictor.bundle.model, read, subsets, batch_size=BATCH)
    after = files.outputs(samples.features, subsets, batch_size=BATCH - 1)
    return _answers(predictor, samples, before), _answers(predictor, samples, after)


def _answers(predictor: Predictor, samples: Samples, said: Outputs) -> Answers:
    known = predictor.bundle
    given = [tuple(sorted(one)) for one in samples.features]
    words = known.words([one.get("text") for one in samples.features])
    read = known.task.says(said, given, known.decoding, words)
    used = {"model": predictor.name, "bundle_sha256": known.digest}
    return [known.task.answer(**one, modalities=m, **used) for one, m in zip(read, given, strict=True)]


def compared(
    predictor: Predictor, samples: Samples, pair: tuple[Outputs, Outputs], said: tuple[Answers, Answers]
) -> dict[str, Any]:
    """How far numbers are apart, and how many answers are the same, of tasks of which one can say so."""
    task = predictor.bundle.task
    agreement = None
    if task.kind in AGREE:
        same = [task.lines(one)[0] == task.lines(other)[0] for one, other in zip(*said, strict=True)]
        agreement = float(np.mean(same))
    return {
        "samples": len(samples.features),
        "test_split": bool(samples.rows),
        "largest_difference": _apart(*pair),
        "largest_number": _largest(pair[0]),
        "agreement": agreement,
    }


def figure(
    predictor: Predictor, samples: Samples, said: tuple[Answers, Answers], most_lost: float | None
) -> dict[str, Any]:
    """The task's own figure on the test split, before and after, and the change with its 95 % interval.

    Raises InvalidError `export-worse` where more than `most_lost` is lost.
    """
    task, rules = predictor.bundle.task, predictor.bundle.task.rules
    wanted, labels = task.truth(samples.rows, [predictor.bundle.decoding])
    measure, sign = rules.measures[rules.headline], -1 if rules.headline in rules.lower else 1
    one, other = (rules.clean(task.given(given, labels)) for given in said)
    before, after = measure.of(one, wanted), measure.of(other, wanted)
    gain = paired.gain(measure, (one, other), wanted, samples.groups, alpha=0.025, resamples=RESAMPLES)
    if most_lost is not None and before - after > most_lost:
        what = f"{rules.headline} goes from {sign * before:.4f} to {sign * after:.4f} on the test split"
        raise InvalidError("export-worse", f"{what}; a loss of {most_lost:g} is allowed")
    low, high = sorted((sign * gain.low, sign * gain.high))
    told = {
        "bundle": sign * before,
        "file": sign * after,
        "change": sign * gain.value,
        "change_low": low,
        "change_high": high,
    }
    unsigned = {name: value + 0.0 for name, value in metrics.rounded(told).items()}  # no change is not -0.0
    return {"name": rules.headline, "samples": len(samples.rows), **unsigned}


def latencies(predictor: Predictor, files: Exported, samples: Samples) -> list[dict[str, Any]]:
    """Milliseconds from features to outputs, in turns; of a machine that others use, the fastest tells."""
    everything, found = ["+".join(predictor.modalities)], []
    for size in SIZES:
        features = [samples.features[n % len(samples.features)] for n in range(size)]
        times: list[list[float]] = [[], []]
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            read = exported.read(predictor, features, raw={})
            evaluate.logits(predictor.bundle.model, read, everything, batch_size=size)
            middle = time.perf_counter()
            files.outputs(features, everything, batch_size=size)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
        bundle_ms, file_ms = (1000 * min(one[1:]) for one in times)
        found.append(metrics.rounded({"batch_size": size, "bundle": bundle_ms, "file": file_ms}))
    return found


def _maker(modality: str, predictor: Predictor, rng: np.random.Generator) -> Callable[[], Any]:
    """One random feature after the other."""
    known = predictor.bundle
    facts = known.features[modality]
    rest, dtype = [size for size in facts["shape"] if size != -1], np.dtype(facts["dtype"])
    most = LONGEST
    if modality == "text":
        most = min(most, int(known.preprocessing["text"]["max_tokens"]))
    if facts.get("kind") in ("pcm", "wave"):
        most = int(facts["sample_rate"])

    def make() -> Any:
        steps = [int(rng.integers(most // 10 + 1, most + 1))] if -1 in facts["shape"] else []
        if modality == "text":
            return rng.integers(1, known.config["architecture"]["vocab_size"], steps).astype(dtype)
        if modality == "image":
            return rng.integers(0, 256, rest).astype(dtype)
        scale = 3_000 if dtype == np.int16 else 1
        return rng.normal(0, scale, [*steps, *rest]).astype(dtype)

    return make


def _apart(before: Outputs, after: Outputs) -> float:
    """The largest difference; infinite where they do not have the same shape, and ends at the same places."""
    found = 0.0
    for subset, one in before.items():
        other = after[subset]
        if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
            return float("inf")
        found = max(found, float(abs(other - one)[~np.isnan(one)].max(initial=0)))
    return found


def _largest(outputs: Outputs) -> float:
    full = fullest(outputs)
    return float(abs(full[~np.isnan(full)]).max(initial=0))
