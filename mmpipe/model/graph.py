"""A network as an ONNX graph: features and marks of presence in, outputs and answers out.

Traced by torch's older exporter, because its newer one unrolls a recurrent network to one fixed length. What
a trace takes for a constant shows in the comparison with the network itself, on batches of several shapes.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmpipe.batches import Batch
from mmpipe.errors import InvalidError
from mmpipe.model.encoders import Vector
from mmpipe.model.network import Network
from mmpipe.model.pretrained import Backbone
from mmpipe.tasks.task import Decoding

Facts = Mapping[str, Mapping[str, Any]]
Backbones = Mapping[str, Backbone]
NONE: Backbones = MappingProxyType({})
OPSET = 17
TRACED = {"batch": 3, "written": 2}
MANY = 16
"""How long the axes of what is traced are, by name or else; every other number works, too. An answer may have
one token alone, and before it the start."""
STEPPED = {
    "audio": ("float32", "frames", "the spectrogram"),
    "pcm": ("int16", "samples", "the wave, mono, of 16 bits"),
    "text": ("int64", "tokens", "token ids"),
}
"""Modality, or the kind of its feature → type, axis and meaning of an input that has a length."""
ANSWERS: dict[str, tuple[str, Callable[[Tensor, Decoding], Tensor]]] = {
    "classify": ("probabilities", lambda logits, d: (logits / d.temperature).softmax(1)),
    "multilabel": ("probabilities", lambda logits, d: (logits / d.temperature).sigmoid()),
    "regress": ("value", lambda logits, d: d.facts["mean"] + d.facts["deviation"] * logits),
    "retrieve": ("embedding", lambda logits, _: functional.normalize(logits, dim=1)),
}
"""Task → the name of its second output, and what makes it of the first."""
SEQUENCES = {"transcribe": "log_probabilities"}
"""Task of sequences → the name of its second output."""
_KNOWN = (DeprecationWarning, UserWarning, torch.jit.TracerWarning)  # type: ignore[attr-defined]
"""What the exporter says of itself, of GRUs in batches and of shapes; the comparison answers all of it."""


@dataclass(frozen=True)
class Port:
    """One input or output. `dtype`: NumPy's name; `shape`: numbers, and names of axes that may be any."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str

    def dynamic(self) -> dict[int, str]:
        """{axis: its name}."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}


def ports(network: Network, facts: Facts, backbones: Backbones = NONE) -> list[Port]:
    """The inputs, modality by modality. `facts`: {modality: facts of what the network reads of it}.

    `backbones`: the frozen ones, of which that of sound stays outside: it reads one recording at a time.
    """
    found = []
    for m in read(network):
        shape = facts[m]["base" if m in inside(backbones) else "shape"]
        shape = shape["shape"] if isinstance(shape, dict) else shape
        if isinstance(network.encoders[m], Vector) and m not in inside(backbones):
            found.append(Port(m, "float32", ("batch", *shape), "the vector that its frozen backbone makes"))
        elif m == "image":
            found.append(Port(m, "uint8", ("batch", *shape), "RGB pixels, letterboxed on white"))
        else:
            dtype, axis, meaning = STEPPED["pcm" if facts[m].get("kind") == "pcm" else m]
            found.append(Port(m, dtype, ("batch", axis, *shape[1:]), f"{meaning}, zeros past its length"))
            words = f"{axis} that a sample has"
            found.append(Port(f"{m}_length", "int64", ("batch",), words))
        words = "whether a sample has it; where not, what stands in its place never counts"
        found.append(Port(f"{m}_present", "bool", ("batch",), words))
    return found


def read(network: Network) -> list[str]:
    """The modalities that are inputs: of a head that reads sequences alone, those it cannot do without."""
    task = network.task
    return sorted(task.needs) if task.sequences and not task.writes else network.modalities


def inside(backbones: Backbones) -> Backbones:
    """Those frozen backbones that a graph holds."""
    return {m: net for m, net in backbones.items() if m != "audio"}


def outputs(network: Network, task: str) -> list[Port]:
    """`logits`, uncalibrated, and the answer; of a task of sequences, both of each step, and the `steps`.

    Of a task that writes, what its decoder looks at (see `decoder_graph`).

    Raises InvalidError `export-unsupported` for a task whose answers no graph gives.
    """
    if network.task.writes:
        return memory_ports(network)
    if task in SEQUENCES:
        steps = ("batch", "steps", network.outputs)
        return [
            Port("logits", "float32", steps, "what the network says of each step, as `predict` reads it"),
            Port(SEQUENCES[task], "float32", steps, "natural logarithms; id 0 is the blank"),
            Port("steps", "int64", ("batch",), "steps that a sample has; what comes after means nothing"),
        ]
    if task not in ANSWERS:
        what = f"what a model says that was trained to {task} is not known to any graph"
        raise InvalidError("export-unsupported", what)
    shape = ("batch", network.outputs)
    return [
        Port("logits", "float32", shape, "what the network says, as `predict` reads it"),
        Port(ANSWERS[task][0], "float32", shape, "the answer: calibrated where it is a probability"),
    ]


def memory_ports(network: Network) -> list[Port]:
    """What goes from the one graph to the other, of a task that writes."""
    return [
        Port("memory", "float32", ("batch", "steps", network.dim), "what the decoder looks at"),
        Port("memory_counts", "bool", ("batch", "steps"), "whether a step of it counts"),
    ]


def feed(
    inputs: list[Port], batch: Batch, shown: Mapping[str, Tensor] | None = None
) -> dict[str, NDArray[Any]]:
    """{input: its array} of a batch on the CPU. `shown`: as `Network.forward` takes `present`."""
    present, found = batch.present if shown is None else shown, {}
    for port in inputs:
        modality, _, part = port.name.partition("_")
        source = {"": batch.inputs, "length": batch.lengths, "present": present}[part][modality]
        if modality == "image" and source.ndim == 4:
            source = source.permute(0, 2, 3, 1)
        found[port.name] = np.ascontiguousarray(source.numpy().astype(port.dtype))
    return found


class Graph(nn.Module):
    """The network with arrays for arguments, in the order of its ports."""

    def __init__(
        self, network: Network, inputs: list[Port], backbones: Backbones, *, task: str, decoding: Decoding
    ) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs
        self.backbones = nn.ModuleDict(dict(inside(backbones)))
        self.answer, self.decoding = ANSWERS[task][1] if task in ANSWERS else None, decoding

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """→ the outputs, (B, K) each; of sequences (B, T, K), (B, T, K) and (B,); or as `memory_ports`."""
        batch = self._batch(arrays)
        if self.network.task.writes:
            return self.network.memory(self.network.encode(batch), batch.present)
        said = self.network(batch)
        if self.answer is None:
            return said.logits, functional.log_softmax(said.logits, 2), said.lengths
        return said.logits, self.answer(said.logits, self.decoding)

    def _batch(self, arrays: Sequence[Tensor]) -> Batch:
        given = {port.name: array for port, array in zip(self.inputs, arrays, strict=True)}
        inputs, lengths, present = {}, {}, {}
        for m in read(self.network):
            here = given[f"{m}_present"]
            length = given.get(f"{m}_length", torch.ones_like(here, dtype=torch.int64))
            present[m] = here & (length > 0)
            lengths[m] = length.clamp(min=1)  # of nothing, a mean might be none
            inputs[m] = given[m].permute(0, 3, 1, 2) if given[m].ndim == 4 else given[m]
            if m in self.backbones:
                inputs[m] = self.backbones[m](inputs[m], lengths[m]).pooled.float()
        some = next(iter(present.values()))
        present |= {m: torch.zeros_like(some) for m in self.network.modalities if m not in present}
        return Batch(inputs, lengths, present, some, some, frozenset())


def to_onnx(
    network: Network, facts: Facts, *, task: str, decoding: Decoding, backbones: Backbones = NONE
) -> bytes:
    """The graph of a network on the CPU in evaluation mode, with its frozen backbones but that of sound.

    Raises InvalidError `export-unsupported` for what ONNX has no words for, naming it.
    """
    inputs, outs = ports(network, facts, backbones), outputs(network, task)
    graph = Graph(network, inputs, backbones, task=task, decoding=decoding).eval()
    parts = ", ".join(f"{m} {type(net).__name__}" for m, net in network.encoders.items())
    return traced(graph, inputs, outs, f"{parts} and fusion {type(network.fusion).__name__}")


def traced(module: nn.Module, inputs: list[Port], outs: list[Port], parts: str) -> bytes:
    """A module in evaluation mode as a graph. `parts`: what it is made of.

    Raises InvalidError `export-unsupported` for what ONNX has no words for, naming the parts.
    """
    out = io.BytesIO()
    with warnings.catch_warnings():
        for kind in _KNOWN:
            warnings.simplefilter("ignore", kind)
        try:
            torch.onnx.export(
                module,
                tuple(_example(port) for port in inputs),
                out,  # type: ignore[arg-type]  # a file, where a path may stand, too
                input_names=[port.name for port in inputs],
                output_names=[port.name for port in outs],
                dynamic_axes={port.name: port.dynamic() for port in (*inputs, *outs)},
                opset_version=OPSET,
                dynamo=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            what = f"the exporter cannot read this network of {parts}: {str(error).strip().splitlines()[0]}"
            raise InvalidError("export-unsupported", what) from None
    return out.getvalue()


def _example(port: Port) -> Tensor:
    """An input of the right shape; what is traced depends on no value."""
    shape = [TRACED.get(axis, MANY) if isinstance(axis, str) else axis for axis in port.shape]
    value = MANY if port.name.endswith("_length") else 1
    return torch.full(shape, value, dtype=getattr(torch, port.dtype))
