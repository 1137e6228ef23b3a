"""Commands about published models: publish, promote, roll back, the log of it, the list of versions."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.tags import LATEST, NAME, STAGE

if TYPE_CHECKING:
    from mmpipe.registry.history import Event
    from mmpipe.registry.promote import Move
    from mmpipe.registry.publish import Published
    from mmpipe.registry.records import Version
    from mmpipe.registry.tagged import Registry

Stage = Annotated[str, typer.Option(help="The stage.")]
Why = Annotated[str, typer.Option(help="The reason, for the log.")]
NoPush = Annotated[bool, typer.Option("--no-push", help="Leave the tag in this repository.")]
Source = Annotated[str, typer.Option("--from", help="A path or URL of a git repository; unless given, here.")]


@command("""
    mmpipe publish
    mmpipe publish --bump minor
    mmpipe publish --sign private.pem
    mmpipe publish --dry-run --json
""")
def publish(  # noqa: PLR0913 (the options of one command)
    bump: Annotated[
        Literal["auto", "major", "minor", "patch"],
        typer.Option(help="Which number goes up; auto looks at what changed since the latest version."),
    ] = "auto",
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Do not compare with the champion.")] = False,
    no_push: Annotated[
        bool, typer.Option("--no-push", help="Leave the tag here; the data must be pushed already.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign the bundle with this private key.")
    ] = None,
    detached: Annotated[
        bool, typer.Option("--detached", help="Also where no branch is checked out.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Give the model of this workspace a version: data pushed, then a tag with its hash and metrics."""
    from mmpipe.registry.publish import Wishes
    from mmpipe.registry.publish import publish as publish_model
    from mmpipe.registry.signature import signer
    from mmpipe.stages.code import stale

    wishes = Wishes(bump, push=not no_push, dry_run=dry_run, detached=detached)
    signs = signer(sign) if sign else None
    made = publish_model(Path(), wishes, stale=stale(Path()), judge=None if no_gate else judge, sign=signs)
    if as_json:
        print_json(_plain(made))
    else:
        print_lines(_told_published(made))


@command("""
    mmpipe promote
    mmpipe promote fusion@v1.2.0
    mmpipe promote fusion@latest --stage staging
    mmpipe promote fusion@v1.2.0 --force --why "the old one reads no PNG"
""")
def promote(
    spec: Annotated[str, typer.Argument(help="Which version.")] = f"{NAME}@{LATEST}",
    stage: Stage = STAGE,
    why: Why = "",
    force: Annotated[bool, typer.Option("--force", help="In spite of the gate; needs --why.")] = False,
    no_push: NoPush = False,
    as_json: Json = False,
) -> None:
    """Give a stage to a version that the gate let pass."""
    from mmpipe.registry.promote import Terms
    from mmpipe.registry.promote import promote as promote_version

    _tell(promote_version(Path(), spec, Terms(stage, why, force, push=not no_push)), as_json=as_json)


@command("""
    mmpipe rollback
    mmpipe rollback --why "too slow"
    mmpipe rollback --to v1.1.0
""")
def rollback(
    to: Annotated[str | None, typer.Option(help="A version; unless given, the one before.")] = None,
    stage: Stage = STAGE,
    why: Why = "",
    no_push: NoPush = False,
    as_json: Json = False,
) -> None:
    """Give a stage back to the version that held it before."""
    from mmpipe.registry.promote import Terms
    from mmpipe.registry.promote import rollback as roll_back

    _tell(roll_back(Path(), to, Terms(stage, why, push=not no_push)), as_json=as_json)


@command("""
    mmpipe history
    mmpipe history --stage prod
    mmpipe history --from ../registry.git --json
""")
def history(
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    source: Source = ".",
    as_json: Json = False,
) -> None:
    """Who published, promoted and rolled back what, when and why: the newest first."""
    from mmpipe.registry import tagged
    from mmpipe.registry.history import events

    registry = tagged.read(source)
    found = events(registry, stage=stage)[::-1]
    if as_json:
        print_json({"events": [_plain(event) for event in found], "problems": registry.problems})
    else:
        print_lines([*map(_told_event, found)] or ["nothing was published yet"])
    registry.check(*registry.problems)


@command("""
    mmpipe models
    mmpipe models --from https://example.com/team/vision.git
    mmpipe models --json
""")
def models(source: Source = ".", as_json: Json = False) -> None:
    """List the published versions, the latest first, with metrics and the stages they hold."""
    from mmpipe.registry import tagged

    registry = tagged.read(source)
    found = list(reversed(registry.versions))
    if as_json:
        listed = [_plain(version) | {"stages": registry.stages(version)} for version in found]
        print_json({"versions": listed, "problems": registry.problems})
    else:
        print_lines([_told_version(registry, v) for v in found] or ["nothing was published yet"])
    registry.check(*registry.problems)


def judge(champion: "Version", challenger: Path) -> dict[str, Any]:
    """The gate's verdict on the bundle in a folder, as `publish` asks for it."""
    from mmpipe.commands.gate import judged

    return judged(f"{champion.name}@{champion.version}", challenger).as_json()


def _told_published(made: "Published") -> Iterator[str]:
    from mmpipe.registry.messages import told

    verb = "would publish" if made.dry_run else "published" if made.made else "pushed"
    yield f"{verb} {made.tag} ({made.why}){_after(': ', told(made.metrics))}"
    yield f"  commit {made.commit[:12]}, bundle {made.bundle_sha256[:12]}"
    yield f"  gate: {made.gate.get('verdict', 'none')}"
    yield from (f"    {reason}" for reason in made.gate.get("reasons", []))
    if made.data_remote is None:
        yield "  no DVC remote is set up: the data stay on this machine (`dvc remote add --default`)"
    if made.git_remote is None:
        yield "  the tag stays in this repository"
    else:
        yield f"  {'to be pushed' if made.dry_run else 'pushed'} to {made.git_remote}"
    if made.unseen:
        yield f"  at {made.git_remote} and not here (git fetch --tags): {', '.join(made.unseen)}"
    if made.gate.get("verdict") != "refuse":
        yield f"next: mmpipe promote {made.name}@{made.version}"


def _tell(move: "Move", *, as_json: bool) -> None:
    if as_json:
        print_json(_plain(move))
        return
    where = f"{move.stage} ({move.tag})"
    if not move.changed:
        print_lines([f"{move.name}@{move.version} holds {where} already: nothing to do"])
        return
    verb = "takes" if move.action == "promote" else "is back in"
    print_lines([f"{move.name}@{move.version} {verb} {where}; before: {move.before or 'none'}"])
    if move.late:
        print_lines(["the clock is behind the tag before: GTO and DVC, which go by it, see the old version"])


def _told_event(event: "Event") -> str:
    from mmpipe.registry.history import WORDS
    from mmpipe.registry.messages import told

    when = event.when.isoformat(" ", "minutes") if event.when else "at no known time"
    what = WORDS[event.what] + _after(" in " if event.what == "unassign" else " to ", event.stage or "")
    said = _after(" — ", event.why) + _after("  ! ", event.problem or "")
    version = f"{event.name}@{event.version or '?'}"
    return f"{when}  {event.who} <{event.email}>  {version}  {what}  {told(event.metrics)}{said}".rstrip()


def _told_version(registry: "Registry", version: "Version") -> str:
    from mmpipe.registry.messages import told

    stages = " ".join(f"#{stage}" for stage in registry.stages(version))
    words = [f"{version.name}@{version.version}", told(version.metrics), stages]
    words += [
        "withdrawn" if version.withdrawn else "",
        f"gate: {(version.gate or {}).get('verdict', 'none')}",
    ]
    return "  ".join(word for word in words if word)


def _after(mark: str, words: str) -> str:
    """The words with a mark before them; nothing where there are none."""
    return f"{mark}{words}" if words else ""


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON has it."""
    return {
        key: item.isoformat() if isinstance(item, datetime) else item for key, item in asdict(value).items()
    }
