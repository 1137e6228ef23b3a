"""Commands that hold versions against one another and against themselves: `diff`, `reproduce`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import UsageError, VerificationError
from mmpipe.terminal import printable

Source = Annotated[
    str, typer.Option("--from", help="The repository of the tags: a folder, or any URL that git understands.")
]


@command("""
    mmpipe diff fusion@v1.1.0 fusion@v1.2.0
    mmpipe diff fusion#prod . --html difference.html
    mmpipe diff fusion@v1.1.0 fusion@latest --from https://example.org/team/models.git --json
""")
def diff(
    old: Annotated[str, typer.Argument(help="A version's tag, or the folder of a workspace or a bundle.")],
    new: Annotated[str, typer.Argument(help="The same; `.` is the workspace here as it is now.")],
    source: Source = ".",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page that opens offline.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what differs between two versions: parameters, data, metrics, predictions, code."""
    from mmpipe.compare import difference, side

    found = difference.compare(side.read(old, source), side.read(new, source))
    if html is not None:
        from mmpipe import files
        from mmpipe.compare import page

        files.write_bytes(html, page.render(found).encode())
    if as_json:
        print_json(found)
        return
    from mmpipe.compare import text

    print_lines(text.lines(found))


@command("""
    mmpipe reproduce fusion@v1.2.0
    mmpipe reproduce fusion#prod --sign private.pem --attach --push
    mmpipe reproduce fusion@latest --from https://example.org/team/models.git -o record.json
""")
def reproduce(  # noqa: PLR0913 (the options of one command)
    tag: Annotated[str, typer.Argument(help="NAME@vX.Y.Z, NAME@latest or NAME#STAGE.")],
    source: Source = ".",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the checkout where it ran.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RECORD", help="Write the record there as well.")
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Note the record on the version's commit (git notes).")
    ] = False,
    push: Annotated[bool, typer.Option("--push", help="Push the notes as well.")] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign the record with this private key.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the pipeline of a version again from nothing, and hold every stage against what was recorded.

    Runs the commands of that commit's dvc.yaml: only for repositories that you trust. Exit status 0 where all
    is identical or, in another environment, equivalent; 6 where a stage diverged.
    """
    _check(source, attach=attach, push=push)
    from mmpipe import files
    from mmpipe.registry import notes, signature
    from mmpipe.reproduce import checkout, record, reproduction

    signs = signature.signer(sign) if sign else None
    done = reproduction.reproduce(tag, source=source, keep=keep, tell=lambda line: _tell(line, aside=as_json))
    told = record.signed(done.record, signs) if signs else done.record
    path = checkout.FOLDER / f"{done.tag.replace('/', '_')}.json"
    for place in (path, *([output] if output else [])):
        files.write_bytes(place, told)
    if attach:
        notes.write(path, done.commit, Path(source), ref=record.NOTES)
    if push:
        _tell(f"pushed {record.NOTES} to {notes.push(Path(source), ref=record.NOTES)}", aside=as_json)
    if as_json:
        print_json(json.loads(told))
    verdict = done.verdict
    where = f" at {verdict.stage}" if verdict.stage else ""
    if verdict.word == "diverged":
        raise VerificationError("not-reproduced", f"diverged{where}: {verdict.why}", where=done.tag)
    _tell(f"{verdict.word}{where}: {verdict.why}", aside=as_json)


def _check(source: str, *, attach: bool, push: bool) -> None:
    if push and not attach:
        raise UsageError("usage", "--push needs --attach")
    if attach and not Path(source).is_dir():
        raise UsageError("usage", "--attach needs a repository that lies here: give its folder by --from")


def _tell(line: str, *, aside: bool) -> None:
    """A line as soon as there is one; beside the JSON on stderr."""
    typer.echo(printable(line), err=aside)
