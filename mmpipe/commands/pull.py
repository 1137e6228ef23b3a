"""Commands that bring published models and check them: `pull`, `verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import VerificationError

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
    mmpipe verify --json
""")
def verify(
    what: Annotated[
        str | None, typer.Argument(help="A bundle's folder or a tag; unless given, all of this workspace.")
    ] = None,
    source: Source = ".",
    as_json: Json = False,
) -> None:
    """Read every artefact anew and check it against its recorded hash; exit status 6 on any difference."""
    from mmpipe import progress
    from mmpipe.registry import audit

    with progress.bar("verify", None) as advance:
        if what is None:
            checked = audit.workspace(Path(), advance=advance)
        elif Path(what).exists() or not any(mark in what for mark in "@#"):
            checked = audit.folder(Path(what))
        else:
            checked = audit.tag(what, source, advance=advance)
    _tell(checked, as_json=as_json)


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
