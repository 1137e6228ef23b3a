"""What one prediction costs: parameters; multiply-adds, memory and time of the largest samples."""

import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mmpipe import batches
from mmpipe.errors import InvalidError
from mmpipe.model.network import Network
from mmpipe.model.pretrained import Backbone

Facts = Mapping[str, Mapping[str, Any]]
SEVERAL = 8
"""Samples of the larger batch whose memory is counted."""
ROUNDS = 20
"""Predictions that are timed; of a machine that others use, only the fastest tells."""
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def measure(model: Network, facts: Facts, backbones: Mapping[str, Backbone] | None = None) -> dict[str, int]:
    """`parameters`, and `multiply_adds` of matrix products and convolutions for one sample with everything.

    `activation_bytes` and `activation_bytes_8`: the most that tensors hold at once besides weights and
    inputs, for a batch of 1 and of 8. `facts`: {modality: facts of its feature table}. `backbones`: the
    frozen ones, which count, too. All numbers depend on the architecture and on torch's version alone.
    """
    frozen = backbones or {}
    with _still(model), FlopCounterMode(display=False) as counter:
        one = _held(model, facts, frozen, 1)
    return {
        "parameters": sum(
            parameter.numel() for net in (model, *frozen.values()) for parameter in net.parameters()
        ),
        "multiply_adds": counter.get_total_flops() // 2,
        "activation_bytes": one,
        f"activation_bytes_{SEVERAL}": _held(model, facts, frozen, SEVERAL),
    }


@contextmanager
def _still(model: Network) -> Iterator[None]:
    """No parameter asks for a gradient: torch's counter looks for one wherever a part is given such, as the
    weight norm of wav2vec 2.0 is.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _held(model: Network, facts: Facts, frozen: Mapping[str, Backbone], size: int) -> int:
    """Run one batch of the largest samples; the most bytes that its tensors hold at once."""
    batch, training = _batch(model, facts, size), model.training
    raw = {
        m: [part.to(net.mean.device) for part in _raw(m, facts[m]["base"], size)] for m, net in frozen.items()
    }
    known = [tensor for net in (model, *frozen.values()) for tensor in net.state_dict().values()]
    known += [*batch.inputs.values(), *batch.lengths.values(), *batch.present.values(), batch.index]
    held = _Held([*known, *(part for parts in raw.values() for part in parts)])
    with torch.inference_mode(), _longest_answers(model), held:
        model.eval()(batch)
        for m, net in frozen.items():
            net(*raw[m])
    model.train(training)
    return held.most


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors as they come and go; `known` ones do not count. `most`: at one time."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def _raw(modality: str, facts: Mapping[str, Any], size: int = 1) -> tuple[Tensor, Tensor]:
    """The largest raw inputs, and their lengths, as a backbone takes them."""
    array = _largest(facts)
    x = torch.from_numpy(np.stack([array] * size))
    lengths = torch.full((size,), len(array))
    return (x.permute(0, 3, 1, 2) if modality == "image" else x), lengths


@dataclass(frozen=True)
class Load:
    """One batch of the largest samples, from features on. `memory_mb`: the most that was held meanwhile.

    On a GPU what tensors held, else the whole process; None where the system does not tell. All but
    `batch_size` depends on the machine and on who else uses it.
    """

    batch_size: int
    latency_ms: float
    memory_mb: float | None


def load(
    model: Network, facts: Facts, batch_size: int, backbones: Mapping[str, Backbone] | None = None
) -> Load:
    """Time and memory of one batch: the fastest of some rounds after one that warms up."""
    batch, training = _batch(model, facts, batch_size), model.training
    frozen = [(net, _raw(m, facts[m]["base"], batch_size)) for m, net in (backbones or {}).items()]
    times = []
    _reset_peak(model.device)
    with torch.inference_mode(), _longest_answers(model):
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            for net, raw in frozen:
                net(*(part.to(net.mean.device) for part in raw)).pooled.cpu()
            model.eval()(batch).logits.cpu()
            times.append(time.perf_counter() - start)
    model.train(training)
    return Load(batch_size, min(times[1:]) * 1000, _peak_mb(model.device))


def check(
    model: Network,
    facts: Facts,
    budget: Mapping[str, float | None],
    backbones: Mapping[str, Backbone] | None = None,
) -> None:
    """Hold a model against `train.budget`: `parameters`, `multiply_adds`, `latency_ms`, each None = any.

    Raises InvalidError `budget-exceeded` that names all that it exceeds.
    """
    limits = {name: limit for name, limit in budget.items() if limit is not None}
    if not limits:
        return
    found: dict[str, float] = {**measure(model, facts, backbones)}
    if "latency_ms" in limits:
        found["latency_ms"] = round(load(model, facts, 1, backbones).latency_ms, 3)
    over = [f"{found[name]:,} {name} of {limit:,}" for name, limit in limits.items() if found[name] > limit]
    if over:
        raise InvalidError("budget-exceeded", f"the model has {' and '.join(over)}", where="train.budget")


@contextmanager
def _longest_answers(model: Network) -> Iterator[None]:
    """Of a head that writes: how long its answers are depends on its weights."""
    writers: list[Any] = [part for part in model.modules() if hasattr(part, "longest")]
    for one in writers:
        one.longest = True
    try:
        yield
    finally:
        for one in writers:
            one.longest = False


def _batch(model: Network, facts: Facts, size: int = 1) -> batches.Batch:
    """Samples with everything, as large as they can be."""
    arrays = {m: [_largest(facts[m])] * size for m in model.modalities}
    dataset = batches.from_arrays(
        ["largest"] * size, arrays, {m: facts[m]["shape"] for m in model.modalities}
    )
    return dataset.to(model.device).batch(np.arange(size)).to(model.device)


def _reset_peak(device: torch.device) -> None:
    """Forget the most that was held so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak becomes what is resident now


def _peak_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if not _STATUS.exists():
        return None
    lines = (line.split() for line in _STATUS.read_text("ascii").splitlines())
    return next((int(words[1]) * 1024 / 1e6 for words in lines if words[0] == "VmHWM:"), None)


def _largest(facts: Mapping[str, Any]) -> NDArray[Any]:
    """A feature of zeros (of ones for token ids) as long as the extractor makes them at most."""
    longest = int(facts.get("max_tokens", 0))
    if facts.get("kind") in ("pcm", "wave"):
        longest = int(facts["max_duration_s"] * facts["sample_rate"])
    elif "max_duration_s" in facts:
        longest = 1 + int(facts["max_duration_s"] * facts["sample_rate"]) // int(facts["hop_length"])
    shape = [longest or 1 if size == -1 else size for size in facts["shape"]]
    return np.full(shape, int("max_tokens" in facts), facts["dtype"])
