"""The command `search`: what in an index is most like a picture, a text or a recording."""

from pathlib import Path
from typing import Annotated

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import UsageError
from mmpipe.paths import BUNDLE


@command("""
    mmpipe search index.parquet --image cat.jpg --top 5
    mmpipe search index.parquet --text "a small cat" --of image
    mmpipe search index.parquet --audio miaow.wav --model fusion#prod --from /srv/models.git --json
""")
def search(  # noqa: PLR0913 (the options of one command)
    index: Annotated[
        Path, typer.Argument(help="Embeddings: what `mmpipe predict TABLE -o INDEX.parquet` wrote.")
    ],
    image: Annotated[Path | None, typer.Option(help="A picture to look for.")] = None,
    text: Annotated[str | None, typer.Option(help="A text to look for.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording to look for.")] = None,
    of: Annotated[
        str | None, typer.Option(help="Where to look: image, text or audio; else in what the query is not.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="So many rows, the most similar first.")] = 5,
    model: Annotated[
        str, typer.Option(help="The folder of a bundle, or a version such as fusion#prod, which is pulled.")
    ] = str(BUNDLE),
    source: Annotated[
        str | None, typer.Option("--from", help="The repository that publishes the model: a folder or a URL.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the rows of an index that are most like a picture, a text or a recording."""
    if of not in (None, "image", "text", "audio"):
        raise UsageError("usage", f"--of is image, text or audio, not {of!r}")
    if image is None and text is None and audio is None:
        raise UsageError("usage", "give --image, --text or --audio to look for")
    from mmpipe import search as searching
    from mmpipe.predict import load
    from mmpipe.preprocess import Sample

    predictor = load(model, source=source)
    found = searching.search(
        predictor, searching.read(index, predictor), Sample(image, text, audio), of=of, top=top
    )
    if as_json:
        print_json([vars(hit) for hit in found])
    else:
        print_lines([f"{hit.similarity:+.3f}  {hit.modality:5}  {hit.id}" for hit in found])
