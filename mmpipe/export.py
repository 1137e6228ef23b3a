"""A bundle as an ONNX file, with all that one needs to run it, once it is held against the bundle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch

from mmpipe import bundle, files, parity
from mmpipe.errors import UsageError
from mmpipe.model import graph
from mmpipe.onnx_file import Session, in_8_bits, versions
from mmpipe.predict import Predictor

FILE, TOLD = "model.onnx", "export.json"


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


def export(predictor: Predictor, into: Path, asked: Asked) -> dict[str, Any]:
    """Write `into`, which is replaced whole: the file, `export.json`, tokenizer, language model.

    Returns what is in export.json.

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
    made, real = parity.generated(predictor), parity.test_split(predictor, asked.workspace)
    for samples in (made, real) if real else (made,):
        parity.hold(*parity.outputs(predictor, plain, samples))
    final = in_8_bits(data, convolutions=asked.convolutions) if asked.eight_bits else data
    session = Session(final, inputs, threads=asked.threads) if asked.eight_bits else plain
    seen = real or made
    before, after = parity.outputs(predictor, session, seen)
    said = parity.answers(predictor, seen, before), parity.answers(predictor, seen, after)
    told |= {
        "format": "int8" if asked.eight_bits else "onnx",
        "compared": parity.compared(predictor, seen, (before, after), said),
        "figure": parity.figure(predictor, real, said, asked.most_lost) if real else None,
        "bytes": {"bundle": _weights(predictor), "float32": len(data), "file": len(final)},
        "latency_ms": parity.latencies(predictor, session, seen),
        "threads": asked.threads,
        "sha256": files.sha256(final),
    }
    _write(into, final, told, predictor)
    return told


def _check_target(into: Path) -> None:
    """Only what an export wrote is replaced."""
    if into.exists() and not (into / TOLD).is_file() and (not into.is_dir() or any(into.iterdir())):
        what = f"{into} is there and is no export, so it is not replaced"
        raise UsageError("usage", what, fix="give another --into, or remove it")


def _write(into: Path, data: bytes, told: Mapping[str, Any], predictor: Predictor) -> None:
    known = predictor.bundle
    with files.atomic_folder(into) as fresh:
        files.write_bytes(fresh / FILE, data)
        files.write_json(fresh / TOLD, told)
        if known.tokenizer is not None:
            files.write_bytes(fresh / bundle.TOKENIZER, known.tokenizer.encode())
        if known.decoding.arrays:
            arrays = safetensors.numpy.save(dict(sorted(known.decoding.arrays.items())))
            files.write_bytes(fresh / bundle.DECODING, arrays)


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


def _weights(predictor: Predictor) -> int:
    """Bytes of the tensors that are in the file, too."""
    nets = (predictor.bundle.model, *graph.inside(predictor.bundle.backbones).values())
    return sum(tensor.nbytes for net in nets for tensor in net.state_dict().values())
