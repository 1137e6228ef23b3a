"""An ONNX file's bytes: run by ONNX Runtime, or rewritten with weights of 8 bits."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmpipe import batches
from mmpipe.errors import NotFoundError
from mmpipe.metrics import Floats
from mmpipe.model import graph
from mmpipe.model.graph import Port

EIGHT_BITS = ["Gather", "Gemm", "MatMul"]
"""Tables of token vectors, linear layers and attention; ONNX Runtime has no 8-bit GRU."""


class Session:
    """A graph that runs on the CPU. `inputs`: as `graph.ports` says."""

    def __init__(self, data: bytes, inputs: list[Port], *, threads: int) -> None:
        """Raises NotFoundError `library-missing` without ONNX Runtime."""
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self.inputs = inputs
        self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(self, arrays: dict[str, Any]) -> list[Any]:
        """The outputs, in order. `arrays`: {input: its array}."""
        found: list[Any] = self._session.run(None, arrays)
        return found

    def logits(
        self,
        dataset: batches.Dataset,
        subsets: Sequence[str],
        *,
        batch_size: int,
        say: Callable[[Sequence[Any]], Floats] | None = None,
    ) -> dict[str, Floats]:
        """{subset: (N, K)}, as `evaluate.logits` has them of the network; of sequences (N, T, K).

        `say`: what makes them of the outputs of a batch, where they are not the first one.
        """
        found: dict[str, list[Any]] = {subset: [] for subset in subsets}
        for rows in batches.chunks(np.arange(len(dataset)), batch_size):
            batch = dataset.batch(rows)
            for subset, parts in found.items():
                shown = {m: here & (m in subset.split("+")) for m, here in batch.present.items()}
                parts.append((say or _own)(self.run(graph.feed(self.inputs, batch, shown))))
        return {subset: _joined(parts) for subset, parts in found.items()}


def _own(outputs: Sequence[Any]) -> Floats:
    """The first output; where the third one says how many steps a sample has, NaN past its end."""
    logits = np.asarray(outputs[0], np.float64)
    if len(outputs) == 3:
        logits[np.arange(logits.shape[1]) >= outputs[2][:, None]] = np.nan
    return logits


def _joined(parts: Sequence[Floats]) -> Floats:
    """Batch after batch as one; shorter sequences are filled up with NaN."""
    if parts[0].ndim < 3:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    ends = [((0, 0), (0, longest - part.shape[1]), (0, 0)) for part in parts]
    pairs = zip(parts, ends, strict=True)
    return np.concatenate([np.pad(part, end, constant_values=np.nan) for part, end in pairs])


def versions() -> dict[str, str]:
    """Of the libraries that made and checked a file."""
    import onnx

    return {"onnx": onnx.__version__, "onnxruntime": _runtime().__version__}


def in_8_bits(data: bytes, *, convolutions: bool = True) -> bytes:
    """The same graph with weights as whole numbers, a scale a channel; inputs are quantised as they come.

    (Dynamic quantisation: nothing is calibrated.) `convolutions`: whether theirs, too.
    """
    _runtime()
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    kinds = ["Conv", *EIGHT_BITS] if convolutions else EIGHT_BITS
    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, ready, after = (Path(folder) / name for name in ("before", "ready", "after"))
        before.write_bytes(data)
        quant_pre_process(before, ready, skip_symbolic_shape=True)
        quantize_dynamic(
            ready, after, op_types_to_quantize=kinds, per_channel=True, weight_type=QuantType.QUInt8
        )
        return after.read_bytes()


def _runtime() -> Any:
    try:
        import onnx  # noqa: F401  (what quantises and torch's exporter need it)
        import onnxruntime
    except ModuleNotFoundError as error:
        what = f"an ONNX file needs {error.name}, which is not installed"
        raise NotFoundError("library-missing", what, fix="pip install 'mmpipe[onnx]'") from None
    return onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs at the root."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
