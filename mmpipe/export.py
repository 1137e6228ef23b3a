"""A bundle as an ONNX file, with all that one needs to run it, once it is held against the bundle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch

from mmpipe import bundle, exported, files, parity
from mmpipe.errors import UsageError
from mmpipe.exported import DECODER, MODEL, Exported
from mmpipe.model import decoder_graph, graph
from mmpipe.model.decoder import END, START
from mmpipe.model.writer import FIRST
from mmpipe.onnx_file import in_8_bits, versions
from mmpipe.predict import Predictor

TOLD = "export.json"


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
    told = _described(predictor)
    plain = exported.make(predictor)
    made, real = parity.generated(predictor), parity.test_split(predictor, asked.workspace)
    running = Exported(predictor, plain, threads=asked.threads)
    for samples in (made, real) if real else (made,):
        parity.hold(*parity.numbers(predictor, running, samples))
    final, seen = plain, real or made
    if asked.eight_bits:
        final = {name: in_8_bits(data, convolutions=asked.convolutions) for name, data in plain.items()}
        running = Exported(predictor, final, threads=asked.threads)
    said = parity.answers(predictor, running, seen)
    told |= {
        "format": "int8" if asked.eight_bits else "onnx",
        "compared": parity.compared(predictor, seen, parity.numbers(predictor, running, seen), said),
        "figure": parity.figure(predictor, real, said, asked.most_lost) if real else None,
        "bytes": {"bundle": _weights(predictor), "float32": _size(plain), "file": _size(final)},
        "latency_ms": parity.latencies(predictor, running, seen),
        "threads": asked.threads,
        "sha256": files.sha256(final[MODEL]),
    }
    if DECODER in final:
        told["decoder"]["sha256"] = files.sha256(final[DECODER])
    _write(into, final, told, predictor)
    return told


def _check_target(into: Path) -> None:
    """Only what an export wrote is replaced."""
    if into.exists() and not (into / TOLD).is_file() and (not into.is_dir() or any(into.iterdir())):
        what = f"{into} is there and is no export, so it is not replaced"
        raise UsageError("usage", what, fix="give another --into, or remove it")


def _write(into: Path, data: Mapping[str, bytes], told: Mapping[str, Any], predictor: Predictor) -> None:
    known = predictor.bundle
    with files.atomic_folder(into) as fresh:
        for name, part in data.items():
            files.write_bytes(fresh / name, part)
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
        **({"decoder": _decoder(predictor)} if known.task.writes else {}),
        "versions": {"torch": str(torch.__version__), **versions()},
    }


def _decoder(predictor: Predictor) -> dict[str, Any]:
    """What one needs to run the decoder: tokens that mean something, the first one's unit, how answers end.

    Token `first_unit` + n stands for text n of the units.
    """
    network = predictor.bundle.model
    return {
        "inputs": [asdict(port) for port in decoder_graph.inputs(network)],
        "outputs": [asdict(port) for port in decoder_graph.outputs(network)],
        "start": START,
        "end": END,
        "first_unit": FIRST,
        "design": decoder_graph.writer(network).design.model_dump(),
    }


def _size(parts: Mapping[str, bytes]) -> int:
    return sum(map(len, parts.values()))


def _weights(predictor: Predictor) -> int:
    """Bytes of the tensors that are in the file, too."""
    nets = (predictor.bundle.model, *graph.inside(predictor.bundle.backbones).values())
    return sum(tensor.nbytes for net in nets for tensor in net.state_dict().values())
