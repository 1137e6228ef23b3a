"""What a bundle's predictions take on this machine, by batch size."""

from collections.abc import Sequence
from pathlib import Path

from mmpipe import runtime
from mmpipe.model import complexity
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.model.complexity import Load

SIZES = (1, 8, 32, 128)


def of(bundle: Bundle, sizes: Sequence[int] = SIZES) -> list[Load]:
    """Time and peak memory of each batch size, from features of the largest samples on."""
    return [complexity.load(bundle.model, bundle.facts, size, bundle.backbones) for size in sorted(sizes)]


def of_folder(folder: Path, *, threads: int) -> list[Load]:
    """The same of the bundle there, loaded to where it is fast."""
    device = runtime.select(precision="fp32", threads=threads).device
    return of(load_bundle(folder, device=device))
