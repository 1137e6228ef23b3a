"""The command `serve`: the model over HTTP."""

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mmpipe.commands.console import command, print_lines
from mmpipe.errors import MmpipeError, SampleError, UsageError
from mmpipe.files import read_guarded
from mmpipe.paths import BUNDLE

EXTRA = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
FAR_POLL_S = 30.0
"""How often a registry behind a URL is read; one on this machine is read as `Limits` has it."""
TOKEN = "MMPIPE_TOKEN"
"""Environment variable with the token, unless --token-file gives one."""


@command("""
    mmpipe serve
    mmpipe serve --model models/fusion --port 8080 --workers 4
    mmpipe serve --model fusion#prod --from /srv/models.git
    mmpipe serve --host 0.0.0.0 --token-file token.txt
""")
def serve(  # noqa: PLR0913 (the options of one command)
    model: Annotated[str, typer.Option(help="The folder of a bundle, or a spec such as fusion#prod.")] = str(
        BUNDLE
    ),
    source: Annotated[
        str, typer.Option("--from", help="The repository that publishes the model: a folder or a URL.")
    ] = ".",
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any that is free.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that clients send; or MMPIPE_TOKEN.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Samples that the model sees at once.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="How long a sample waits for others.")
    ] = 5.0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that decode uploads; else one a core.")
    ] = None,
) -> None:
    """Serve predictions over HTTP, with a page to try them on; a model that changes is loaded anew."""
    for name in EXTRA:
        _need(name)
    from mmpipe.executors import worker_count
    from mmpipe.predict import load
    from mmpipe.serve.current import Current
    from mmpipe.serve.limits import Limits
    from mmpipe.serve.server import serve as run

    limits = Limits(max_batch=max_batch, max_wait_s=max_wait_ms / 1000, workers=workers or worker_count())
    if not Path(source).is_dir():
        limits = replace(limits, poll_s=FAR_POLL_S)
    current = Current(_resolver(model, source), lambda folder, _: load(folder))
    token = _token(token_file)
    run(current, limits, host=host, port=port, token=token, ready=lambda url: print_lines([url]))


def _need(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed"
        raise MmpipeError("library-missing", what, fix="pip install 'mmpipe[serve]'") from None


def _resolver(model: str, source: str) -> Callable[[], tuple[Path, str]]:
    """What says where the bundle lies at this moment, and what it is called; a version is pulled once."""
    folder, pulled = Path(model), dict[str, Path]()
    if folder.exists() or not ("@" in model or "#" in model):
        return lambda: (folder, folder.resolve().name)
    from mmpipe.registry import tagged
    from mmpipe.registry.pull import pull

    def resolve() -> tuple[Path, str]:
        version = tagged.read(source).resolve(model)
        place = pulled.get(version.tag)
        if place is None or _digest(place) != version.bundle_sha256:
            place = pull(f"{version.name}@{version.version}", source=source).folder
        pulled[version.tag] = place
        return place, version.tag

    return resolve


def _digest(folder: Path) -> str | None:
    """Of the bundle that lies there now; None where it is gone or damaged, and has to be pulled again."""
    from mmpipe import bundle

    try:
        return bundle.parse((folder / bundle.MANIFEST).read_bytes(), str(folder))[1]
    except (OSError, MmpipeError):
        return None


def _token(file: Path | None) -> bytes | None:
    """From the file, else from the environment, without white space around it."""
    if file is None:
        return os.environb.pop(TOKEN.encode(), b"").strip() or None  # no child process is to have it
    try:
        return read_guarded(file, max_bytes=10_000).strip()
    except SampleError as error:
        raise UsageError(
            "usage", f"--token-file: {error.what}", fix="name a file that holds a token"
        ) from None
