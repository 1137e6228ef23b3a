"""Commands that bring published models and check them: `pull`, `verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from mmpipe.registry.audit import Checked

Source = Annotated[
    str, typer.Option("--from", help="The repository: a folder, or any URL that git understands.")
]


@command("""
    mmpipe pull fusion@v1.2.0
    mmpipe pull fusion#prod --into model
    mmpipe pull fusion@latest --from https://example.org/team/models.git
    mmpipe pull fusion@v1.2.0 --require-signature team.pub
""")
def pull(
    spec: Annotated[str, typer.Argument(help="NAME@vX.Y.Z, NAME@latest or NAME#STAGE.")],
    source: Source = ".",
    into: Annotated[Path | None, typer.Option(help="A folder to put the bundle into as well.")] = None,
    require_signature: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Refuse a bundle that this public key did not sign.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a published model by its tag; every byte is checked before it is put in place."""
    from mmpipe import progress
    from mmpipe.registry import pull as pulling

    with progress.bar(f"pull {spec}", None) as advance:
        found = pulling.pull(spec, source=source, into=into, public_key=require_signature, advance=advance)
    if as_json:
        print_json(
            {"folder": str(found.folder), "fetched": found.fetched, "size": found.size, **vars(found.origin)}
        )
        return
    how = "verified" if found.fetched else "was here already, verified again"
    signed = ", signature holds" if require_signature else ""
    origin = found.origin
    print_lines(
        [
            f"{origin.tag} of {origin.source}, commit {origin.commit[:12]}",
            f"{found.folder}  {found.size:,} bytes, sha256 {origin.bundle_sha256[:12]}, {how}{signed}",
        ]
    )


@command("""
    mmpipe verify
    mmpipe verify models/fusion
    mmpipe verify fusion@v1.2.0 --from /srv/models.git
    mmpipe verify fusion@v1.2.0 --record --require-signature team.pub
    mmpipe verify record.json --record
    mmpipe verify --json
""")
def verify(
    what: Annotated[
        str | None, typer.Argument(help="A bundle's folder or a tag; unless given, all of this workspace.")
    ] = None,
    source: Source = ".",
    record: Annotated[
        bool,
        typer.Option("--record", help="The record of a reproduction: the tag's own, or one in a file."),
    ] = False,
    require_signature: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Refuse what this public key did not sign.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every artefact anew and check it against its recorded hash; exit status 6 on any difference."""
    from mmpipe import progress
    from mmpipe.registry import audit

    by_tag = what is not None and not Path(what).exists() and any(mark in what for mark in "@#")
    if record:
        _verify_record(what, source, by_tag=by_tag, key=require_signature, as_json=as_json)
        return
    if require_signature and not by_tag:
        raise UsageError("usage", "--require-signature needs a tag: that is what carries the signature")
    with progress.bar("verify", None) as advance:
        if what is None:
            checked = audit.workspace(Path(), advance=advance)
        elif by_tag:
            checked = audit.tag(what, source, public_key=require_signature, advance=advance)
        else:
            checked = audit.folder(Path(what))
    _tell(checked, as_json=as_json)


def _verify_record(what: str | None, source: str, *, by_tag: bool, key: Path | None, as_json: bool) -> None:
    from mmpipe.reproduce import record

    if what is None:
        raise UsageError("usage", "--record needs a tag, or the file of a record")
    found = (
        record.of_tag(what, source, public_key=key) if by_tag else record.in_file(Path(what), public_key=key)
    )
    signed = "signature holds" if key else "signed, by whom is not checked" if found.signed else "not signed"
    if as_json:
        print_json({**vars(found), "checked_signature": key is not None})
    else:
        at = f" at {found.stage}" if found.stage else ""
        print_lines(
            [
                f"{found.tag}: {found.verdict}{at}: {found.why}",
                f"  commit {found.commit[:12]}, bundle {found.bundle_sha256[:12]}; record whole, {signed}",
            ]
        )
    if found.verdict == "diverged":
        raise VerificationError("not-reproduced", f"the record says diverged: {found.why}", where=found.tag)


def _tell(checked: "list[Checked]", *, as_json: bool) -> None:
    faults = [one for one in checked if one.fault is not None]
    if as_json:
        print_json({"checked": len(checked), "faults": [vars(one) for one in faults]})
    else:
        print_lines(str(one.fault) for one in faults)
        print_lines([f"{len(checked)} artefacts checked, {len(faults)} differ"])
    if faults:
        names = ", ".join(one.name for one in faults[:3]) + (" and more" if len(faults) > 3 else "")
        raise VerificationError("object-damaged", f"{len(faults)} of {len(checked)} differ: {names}")
