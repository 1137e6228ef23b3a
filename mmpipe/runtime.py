"""Seed, device, dtype and threads of this run."""

import os
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.utils.deterministic

FLOAT32 = torch.float32


@dataclass(frozen=True)
class Runtime:
    """Where and in what precision to compute."""

    device: torch.device
    dtype: torch.dtype
    """torch.bfloat16 = autocast on the device; torch.float32 = none."""

    def autocast(self) -> torch.autocast:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def describe(self) -> dict[str, str]:
        """What the exact result depends on beside data, code and parameters."""
        kind = torch.backends.cpu.get_cpu_capability()
        if self.device.type == "cuda":
            kind = torch.cuda.get_device_name(self.device)
        dtype = str(self.dtype)
        return {"device": self.device.type, "kind": kind, "dtype": dtype, "torch": torch.__version__}


def select(*, precision: str, threads: int, deterministic: bool = True) -> Runtime:
    """Choose the device (CUDA where there is one) and dtype; set thread count and determinism.

    `precision` is `auto` (bf16 where the hardware multiplies it), `fp32` or `bf16`. `threads` is part of the
    result on a CPU (the order of sums), so it is a parameter and not the machine's.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
    bf16 = precision == "bf16" or (precision == "auto" and _has_bf16(device))
    return Runtime(device, torch.bfloat16 if bf16 else torch.float32)


def seed_all(*parts: int) -> None:
    """Seed Python, NumPy and torch from whole numbers, e.g. (seed, epoch, step): no state to save."""
    seed = int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        native: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return native
    flags = torch.backends.cpu.get_cpu_capability()
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return flags.startswith("AVX512") and supported and _cpu_flag("avx512_bf16")


def _cpu_flag(name: str) -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return any(name in line.split() for line in file if line.startswith("flags"))
    except FileNotFoundError:
        return False
