"""The ONNX files of a model, and what they say in the place of its network."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpipe import batches, evaluate
from mmpipe.batches import Dataset
from mmpipe.metrics import Floats
from mmpipe.model import decoder_graph, graph, writer
from mmpipe.model.decoder import END, START
from mmpipe.model.generation import Next
from mmpipe.model.network import Network
from mmpipe.model.writer import FIRST, Writer
from mmpipe.onnx_file import Session
from mmpipe.predict import Predictor
from mmpipe.preprocess import Features

MODEL, DECODER = "model.onnx", "decoder.onnx"
Outputs = dict[str, Floats]


def make(predictor: Predictor) -> dict[str, bytes]:
    """{name: a graph in float32}: `MODEL`, and of a task that writes `DECODER`. Raises as `graph.to_onnx`."""
    known = predictor.bundle
    found = {
        MODEL: graph.to_onnx(
            known.model,
            known.facts,
            task=known.task_name,
            decoding=known.decoding,
            backbones=known.backbones,
        )
    }
    return found | ({DECODER: decoder_graph.to_onnx(known.model)} if known.task.writes else {})


class Exported:
    """Files that run on the CPU. `files`: {name: bytes}, as `make` has them, or the same with 8 bits."""

    def __init__(self, predictor: Predictor, files: Mapping[str, bytes], *, threads: int) -> None:
        known = predictor.bundle
        inputs = graph.ports(known.model, known.facts, known.backbones)
        self._predictor = predictor
        self._model = Session(files[MODEL], inputs, threads=threads)
        if DECODER in files:
            step = Session(files[DECODER], decoder_graph.inputs(known.model), threads=threads)
            self._head = _running(known.model, step)

    def outputs(self, features: Sequence[Features], subsets: Sequence[str], *, batch_size: int) -> Outputs:
        """{subset: what an answer is read from}, as `evaluate.logits` has it of the network."""
        say = self._write if self._predictor.bundle.task.writes else None
        return self._model.logits(self._given(features), subsets, batch_size=batch_size, say=say)

    def numbers(self, features: Sequence[Features], subsets: Sequence[str], *, batch_size: int) -> Outputs:
        """{subset: what to hold against `numbers` of the bundle}."""
        say = self._judge if self._predictor.bundle.task.writes else None
        return self._model.logits(self._given(features), subsets, batch_size=batch_size, say=say)

    def _given(self, features: Sequence[Features]) -> Dataset:
        return read(self._predictor, features, raw=graph.inside(self._predictor.bundle.backbones))

    def _write(self, outputs: Sequence[Any]) -> Floats:
        memory, counts = map(torch.from_numpy, outputs)
        return self._head.write(memory, counts).double().numpy()

    def _judge(self, outputs: Sequence[Any]) -> Floats:
        memory, counts = map(torch.from_numpy, outputs)
        return _judged(self._head, memory, counts, _tokens(self._predictor.bundle.model))


@torch.inference_mode()
def numbers(
    predictor: Predictor, features: Sequence[Features], subsets: Sequence[str], *, batch_size: int
) -> Outputs:
    """{subset: what the bundle says, as numbers}: its outputs, or of a task that writes (N, T) log p.

    These are of the same random tokens for each sample, each told those before it: what is written may turn
    over by rounding, these may not.
    """
    model, data = predictor.bundle.model, read(predictor, features, raw={})
    if not predictor.bundle.task.writes:
        return evaluate.logits(model, data, subsets, batch_size=batch_size)
    head, tokens, found = decoder_graph.writer(model), _tokens(model), []
    for rows in batches.chunks(np.arange(len(data)), batch_size):
        batch = data.batch(rows)
        memory, counts = model.memory(model.encode(batch), batch.present)
        found.append(_judged(head, memory, counts, tokens))
    return {subsets[-1]: np.concatenate(found)}


def read(predictor: Predictor, features: Sequence[Features], *, raw: Mapping[str, Any]) -> Dataset:
    """What the network reads of features; of the modalities in `raw`, no vector but what makes it."""
    known, ids = predictor.bundle, [str(number) for number in range(len(features))]
    arrays = {m: [one.get(m) for one in features] for m in known.modalities}
    found = known.dataset(ids, {m: of for m, of in arrays.items() if m not in raw})
    shapes = {m: known.features[m]["shape"] for m in raw}
    more = batches.from_arrays(ids, {m: arrays[m] for m in raw}, shapes)
    return replace(found, columns={**found.columns, **more.columns})


class _Step(nn.Module):
    """A decoder's graph in the place of the decoder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def forward(self, memory: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """As `Decoder.forward`."""
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], 1)
        arrays = {"memory": memory, "memory_counts": mask, "tokens": before}
        [found] = self._session.run({name: array.numpy() for name, array in arrays.items()})
        return torch.from_numpy(found)


def _steps(step: nn.Module, memory: Tensor, mask: Tensor) -> Next:
    """Every prefix from its start, as the graph keeps nothing."""

    def ask(prefixes: Tensor, rows: Tensor) -> Tensor:
        last = prefixes.new_full((len(prefixes), 1), END)  # of no influence
        found: Tensor = step(memory[rows], mask[rows], torch.cat([prefixes, last], 1))[:, -1]
        return found

    return ask


def _running(network: Network, step: Session) -> Writer:
    """The head, whose search asks the graph."""
    head = deepcopy(decoder_graph.writer(network))
    head.decoder = _Step(step)  # type: ignore[assignment]
    head.steps = _steps
    return head


def _tokens(network: Network) -> Tensor:
    """(1, T): as many random tokens as an answer may have, and its end."""
    head = decoder_graph.writer(network)
    rng, size = np.random.default_rng(0), head.decoder.embed.num_embeddings
    return torch.tensor([[*rng.integers(FIRST, size, head.design.tokens).tolist(), END]])


def _judged(head: Writer, memory: Tensor, counts: Tensor, tokens: Tensor) -> Floats:
    """(B, T): log p of each token."""
    wanted = tokens.expand(len(memory), -1)
    found: Floats = writer.judged(head.decoder(memory, counts, wanted), wanted)[:, :, 0].double().numpy()
    return found
