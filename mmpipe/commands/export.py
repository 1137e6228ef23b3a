"""The command `export`: a model as an ONNX file, with what that costs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import UsageError
from mmpipe.paths import BUNDLE, PARAMS, SPLITS


@command("""
    mmpipe export
    mmpipe export --format int8 --max-loss 0.01
    mmpipe export --format int8 --no-convolutions
    mmpipe export fusion#prod --from /srv/models.git --into exported
""")
def export(  # noqa: PLR0913 (the options of one command)
    model: Annotated[
        str, typer.Argument(help="The folder of a bundle, or a version such as fusion#prod, which is pulled.")
    ] = str(BUNDLE),
    source: Annotated[
        str | None, typer.Option("--from", help="The repository that publishes the model: a folder or a URL.")
    ] = None,
    format: Annotated[Literal["onnx", "int8"], typer.Option(help="int8: with weights of 8 bits.")] = "onnx",
    into: Annotated[
        Path | None, typer.Option(help="The folder to write; models/onnx or models/int8 unless given.")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(min=0, help="Refuse a file that loses more of the task's own figure.")
    ] = None,
    convolutions: Annotated[
        bool, typer.Option(help="Of int8: whether the weights of convolutions have 8 bits, too.")
    ] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the timing.")] = 2,
    as_json: Json = False,
) -> None:
    """Write a model as an ONNX file that runs without torch, after holding it against the model itself.

    It is compared on samples that are generated and, where the workspace here is of the same task, on its
    test split.
    """
    from mmpipe import runtime
    from mmpipe.export import Asked
    from mmpipe.export import export as write
    from mmpipe.predict import load

    runtime.select(precision="fp32", threads=threads)
    predictor = load(model, source=source, device="cpu")
    workspace = Path() if SPLITS.is_file() and _task() == predictor.bundle.task_name else None
    if max_loss is not None and workspace is None:
        raise UsageError("usage", "--max-loss needs the test split of a workspace of the same task")
    folder = into or BUNDLE.parent / format
    told = write(predictor, folder, Asked(format == "int8", max_loss, threads, workspace, convolutions))
    if as_json:
        print_json(told)
    else:
        print_lines([*_lines(told), f"written: {folder}"])


def _task() -> str | None:
    """What the workspace here trains for."""
    from mmpipe import params

    return params.load(PARAMS).model.task if PARAMS.is_file() else None


def _lines(told: dict[str, Any]) -> list[str]:
    compared, figure, sizes = told["compared"], told["figure"], told["bytes"]
    of = "test samples" if compared["test_split"] else "generated samples"
    same = (
        "" if compared["agreement"] is None else f", {compared['agreement']:.1%} of the answers are the same"
    )
    found = [
        f"{told['model']} as {told['format']}, against the bundle on {compared['samples']} {of}:",
        f"  numbers differ by at most {compared['largest_difference']:.2g} "
        f"(the largest is {compared['largest_number']:.3g}){same}",
    ]
    if figure:
        change = f"{figure['change']:+.4f} [{figure['change_low']:+.4f}, {figure['change_high']:+.4f}]"
        found.append(
            f"  {figure['name']} {figure['bundle']:.4f} → {figure['file']:.4f}, a change of {change}"
        )
    else:
        found.append("  there is no test split here, so what it costs in accuracy is not known")
    found.append(f"  {sizes['bundle']:,} bytes of weights → a file of {sizes['file']:,}")
    for one in told["latency_ms"]:
        ms = f"{one['bundle']:.2f} ms → {one['file']:.2f} ms"
        found.append(f"  a batch of {one['batch_size']}: {ms}, {told['threads']} threads")
    return found
