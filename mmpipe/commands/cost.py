"""The command `cost`: what a model's predictions take on this machine."""

from typing import Annotated, Any

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.paths import BUNDLE


@command("""
    mmpipe cost
    mmpipe cost --batch-size 1 --batch-size 64 --threads 1
    mmpipe cost --model fusion#prod --json
""")
def cost(
    model: Annotated[
        str, typer.Option(help="The folder of a bundle, or a version such as fusion#prod, which is pulled.")
    ] = str(BUNDLE),
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Samples at once; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    as_json: Json = False,
) -> None:
    """Time and memory of a model's predictions here, by batch size, from features of the largest samples.

    They differ from run to run, so a bundle's card has them only where card.latency asks for it.
    """
    from mmpipe import latency, runtime
    from mmpipe.model import complexity
    from mmpipe.predict import load

    device = runtime.select(precision="fp32", threads=threads).device
    bundle = load(model, device=str(device)).bundle
    found = complexity.measure(bundle.model, bundle.facts, bundle.backbones)
    loads = [vars(one) for one in latency.of(bundle, batch_size or latency.SIZES)]
    if as_json:
        print_json({**found, "device": str(device), "threads": threads, "batches": loads})
    else:
        print_lines(
            [
                f"{found['parameters']:,} parameters, {found['multiply_adds']:,} multiply-adds and "
                f"{found['activation_bytes']:,} bytes of activations a sample",
                f"on {device}, {threads} threads:",
                f"{'batch':>6} {'ms':>9} {'samples/s':>10} {'peak MB':>8}",
                *map(_line, loads),
            ]
        )


def _line(row: dict[str, Any]) -> str:
    rate = 1000 * row["batch_size"] / row["latency_ms"]
    memory = "?" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
    return f"{row['batch_size']:>6} {row['latency_ms']:>9.2f} {rate:>10.0f} {memory:>8}"
