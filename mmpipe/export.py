"""A bundle as an ONNX file, held against the bundle itself: how far apart they answer, and what it saves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmpipe import batches, bundle, evaluate, files, metrics, paired, testset, trial
from mmpipe.batches import Dataset
from mmpipe.errors import InvalidError, UsageError
from mmpipe.metrics import Floats
from mmpipe.model import graph
from mmpipe.onnx_file import Session, in_8_bits, versions
from mmpipe.predict import Predictor
from mmpipe.preprocess import Features, Refusal
from mmpipe.tasks.task import Prediction, fullest

FILE, TOLD = "model.onnx", "export.json"
TOLERANCE = 1e-4
"""Largest difference between numbers of the bundle and of the file, in multiples of the largest of them, or
of 1 where that is less. Float32 rounds a network of some layers to about 1e-6."""
MADE, LONGEST = 48, 64
"""Samples that are generated, and their most frames and tokens."""
SIZES, ROUNDS, RESAMPLES, BATCH = (1, 32), 10, 2_000, 32
Outputs = dict[str, Floats]


@dataclass(frozen=True)
class Asked:
    """`eight_bits`: whether to quantise, and `convolutions`, too. `threads`: of the timing.

    `most_lost`: of the task's own figure; None = any. `workspace`: whose test split to compare on; None =
    samples that are generated.
    """

    eight_bits: bool = False
    most_lost: float | None = None
    threads: int = 2
    workspace: Path | None = None
    convolutions: bool = True


@dataclass(frozen=True)
class Samples:
    """What is compared: features, as the extractors make them.

    `rows`: of `schema.SAMPLES`, for samples of a test split; else there are none.
    """

    features: list[Features]
    rows: list[dict[str, Any]]
    groups: list[str]


def export(predictor: Predictor, into: Path, asked: Asked) -> dict[str, Any]:
    """Write `into`, which is replaced whole: the file, `export.json` and the tokenizer. Returns export.json.

    The bundle is on the CPU. Raises InvalidError `export-unsupported`, `export-differs` where the plain file
    says other numbers than the bundle, and `export-worse` where the file loses more than is allowed; then
    nothing is written.
    """
    _check_target(into)
    known = predictor.bundle
    told = _described(predictor)
    data = graph.to_onnx(
        known.model,
        known.facts,
        task=known.task_name,
        decoding=known.decoding,
        backbones=known.backbones,
    )
    inputs = graph.ports(known.model, known.facts, known.backbones)
    plain = Session(data, inputs, threads=asked.threads)
    made, real = _generated(predictor), _test(predictor, asked.workspace)
    for samples in (made, real) if real else (made,):
        _hold(_compared(predictor, plain, samples))
    final = in_8_bits(data, convolutions=asked.convolutions) if asked.eight_bits else data
    session = Session(final, inputs, threads=asked.threads) if asked.eight_bits else plain
    seen = real or made
    told |= {
        "format": "int8" if asked.eight_bits else "onnx",
        "compared": _compared(predictor, session, seen),
        "figure": _figure(predictor, session, real, asked.most_lost) if real else None,
        "bytes": {"bundle": _weights(predictor), "float32": len(data), "file": len(final)},
        "latency_ms": _latencies(predictor, session, seen),
        "threads": asked.threads,
        "sha256": files.sha256(final),
    }
    _write(into, final, told, known.tokenizer)
    return told


def _check_target(into: Path) -> None:
    """Only what an export wrote is replaced."""
    if into.exists() and not (into / TOLD).is_file() and (not into.is_dir() or any(into.iterdir())):
        what = f"{into} is there and is no export, so it is not replaced"
        raise UsageError("usage", what, fix="give another --into, or remove it")


def _write(into: Path, data: bytes, told: Mapping[str, Any], tokenizer: str | None) -> None:
    with files.atomic_folder(into) as fresh:
        files.write_bytes(fresh / FILE, data)
        files.write_json(fresh / TOLD, told)
        if tokenizer is not None:
            files.write_bytes(fresh / bundle.TOKENIZER, tokenizer.encode())


def _described(predictor: Predictor) -> dict[str, Any]:
    """All that one needs to run the file."""
    known = predictor.bundle
    inputs = graph.ports(known.model, known.facts, known.backbones)
    outputs = graph.outputs(known.model, known.task_name)
    return {
        "model": predictor.name,
        "bundle_sha256": known.digest,
        "task": known.task_name,
        "labels": known.labels,
        "temperature": known.temperature,
        "decoding": known.decoding.facts,
        "preprocessing": known.preprocessing,
        "inputs": [asdict(port) for port in inputs],
        "outputs": [asdict(port) for port in outputs],
        "versions": {"torch": str(torch.__version__), **versions()},
    }


def _generated(predictor: Predictor) -> Samples:
    """Random features of every shape there can be: lengths from 1 on, any modalities present, or none."""
    rng, known = np.random.default_rng(0), predictor.bundle
    makers = {m: _maker(m, predictor, rng) for m in known.modalities}
    features = [{m: make() for m, make in makers.items() if rng.random() < 0.75} for _ in range(MADE)]
    return Samples(features, [], [])


def _maker(modality: str, predictor: Predictor, rng: np.random.Generator) -> Callable[[], Any]:
    """One random feature after the other."""
    known = predictor.bundle
    facts = known.features[modality]
    rest, dtype = [size for size in facts["shape"] if size != -1], np.dtype(facts["dtype"])
    most = LONGEST
    if modality == "text":
        most = min(most, int(known.preprocessing["text"]["max_tokens"]))
    if facts.get("kind") == "wave":
        most = int(facts["sample_rate"])

    def make() -> Any:
        steps = [int(rng.integers(most // 10 + 1, most + 1))] if -1 in facts["shape"] else []
        if modality == "text":
            return rng.integers(1, known.config["architecture"]["vocab_size"], steps).astype(dtype)
        if modality == "image":
            return rng.integers(0, 256, rest).astype(dtype)
        return rng.normal(0, 1, [*steps, *rest]).astype(dtype)

    return make


def _read(predictor: Predictor, features: Sequence[Features], *, raw: Mapping[str, Any]) -> Dataset:
    """What the network reads of features; of the modalities in `raw`, no vector but what makes it."""
    known, ids = predictor.bundle, [str(number) for number in range(len(features))]
    arrays = {m: [one.get(m) for one in features] for m in known.modalities}
    read = known.dataset(ids, {m: of for m, of in arrays.items() if m not in raw})
    shapes = {m: known.features[m]["shape"] for m in raw}
    more = batches.from_arrays(ids, {m: arrays[m] for m in raw}, shapes)
    return replace(read, columns={**read.columns, **more.columns})


def _test(predictor: Predictor, workspace: Path | None) -> Samples | None:
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


def _both(predictor: Predictor, session: Session, samples: Samples) -> tuple[Outputs, Outputs]:
    """What the bundle and the file say of the subsets of modalities that an answer needs."""
    subsets = predictor.bundle.task.asks(predictor.modalities)
    read = _read(predictor, samples.features, raw={})
    given = _read(predictor, samples.features, raw=graph.inside(predictor.bundle.backbones))
    before = evaluate.logits(predictor.bundle.model, read, subsets, batch_size=BATCH)
    return before, session.logits(given, subsets, batch_size=BATCH - 1)


def _compared(predictor: Predictor, session: Session, samples: Samples) -> dict[str, Any]:
    before, after = _both(predictor, session, samples)
    task = predictor.bundle.task
    agreement = None
    if task.kind in ("label", "labels"):
        said = (_answers(predictor, samples, outputs) for outputs in (before, after))
        same = [task.lines(one)[0] == task.lines(other)[0] for one, other in zip(*said, strict=True)]
        agreement = float(np.mean(same))
    return {
        "samples": len(samples.features),
        "test_split": bool(samples.rows),
        "largest_difference": max(float(abs(after[subset] - of).max()) for subset, of in before.items()),
        "largest_number": float(abs(fullest(before)).max()),
        "agreement": agreement,
    }


def _hold(compared: Mapping[str, Any]) -> None:
    allowed = TOLERANCE * max(1.0, compared["largest_number"])
    if not compared["largest_difference"] <= allowed:  # nor what is no number
        found = f"{compared['largest_difference']:.2g} from the bundle's, {allowed:.2g} is allowed"
        what = f"the file's numbers for {compared['samples']} samples are up to {found}"
        raise InvalidError("export-differs", what)


def _answers(predictor: Predictor, samples: Samples, outputs: Outputs) -> list[Prediction]:
    known = predictor.bundle
    given = [tuple(sorted(one)) for one in samples.features]
    said = known.task.says(outputs, given, known.decoding)
    used = {"model": predictor.name, "bundle_sha256": known.digest}
    return [known.task.answer(**one, modalities=m, **used) for one, m in zip(said, given, strict=True)]


def _figure(
    predictor: Predictor, session: Session, samples: Samples, most_lost: float | None
) -> dict[str, Any]:
    """The task's own figure on the test split, before and after, and the change with its 95 % interval."""
    task, rules = predictor.bundle.task, predictor.bundle.task.rules
    wanted, labels = task.truth(samples.rows, [predictor.bundle.decoding])
    measure, sign = rules.measures[rules.headline], -1 if rules.headline in rules.lower else 1
    pair = [
        rules.clean(task.given(_answers(predictor, samples, outputs), labels))
        for outputs in _both(predictor, session, samples)
    ]
    before, after = (measure.of(one, wanted) for one in pair)
    gain = paired.gain(measure, (pair[0], pair[1]), wanted, samples.groups, alpha=0.025, resamples=RESAMPLES)
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
    return {"name": rules.headline, "samples": len(samples.rows), **metrics.rounded(told)}


def _weights(predictor: Predictor) -> int:
    """Bytes of the tensors that are in the file, too."""
    nets = (predictor.bundle.model, *graph.inside(predictor.bundle.backbones).values())
    return sum(tensor.nbytes for net in nets for tensor in net.state_dict().values())


def _latencies(predictor: Predictor, session: Session, samples: Samples) -> list[dict[str, Any]]:
    """Milliseconds from features to numbers, in turns; of a machine that others use, the fastest tells."""
    everything, found = ["+".join(predictor.modalities)], []
    held = graph.inside(predictor.bundle.backbones)
    for size in SIZES:
        features = [samples.features[n % len(samples.features)] for n in range(size)]
        times: list[list[float]] = [[], []]
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            read = _read(predictor, features, raw={})
            evaluate.logits(predictor.bundle.model, read, everything, batch_size=size)
            middle = time.perf_counter()
            session.logits(_read(predictor, features, raw=held), everything, batch_size=size)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
        bundle_ms, file_ms = (1000 * min(one[1:]) for one in times)
        found.append(metrics.rounded({"batch_size": size, "bundle": bundle_ms, "file": file_ms}))
    return found
