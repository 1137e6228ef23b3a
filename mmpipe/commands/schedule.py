"""Commands about retraining: once, here and now; by a schedule, in a server that shows it."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import NotFoundError, UsageError


@command("""
    mmpipe run
    mmpipe run --landing new/ --publish dry-run
    mmpipe run --set train.lr=0.001 --set train.epochs=40 --no-promote
    mmpipe run --options nightly.json --json
""")
def run(  # noqa: PLR0913 (the options of one command)
    values: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of params.yaml, for this run.")
    ] = None,
    landing: Annotated[
        str | None, typer.Option(help="A folder with new samples: tables and files, or one folder a class.")
    ] = None,
    publish: Annotated[
        Literal["yes", "no", "dry-run"] | None,
        typer.Option(help="What becomes of a model that the gate lets pass; unless given, yes."),
    ] = None,
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Do not give it the stage prod.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run every stage, and judge again.")] = False,
    wait: Annotated[
        float | None, typer.Option(help="Seconds to wait for the end of another run.", metavar="SECONDS")
    ] = None,
    options: Annotated[
        Path | None, typer.Option(help="A JSON file with any of the fields that docs/retraining.md lists.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Retrain in a worktree of its own, compare with the champion, publish and promote what is better."""
    from mmpipe.retrain import summary
    from mmpipe.retrain.blocking import to_end

    wishes = _wishes(options)
    given: dict[str, Any] = {"landing": landing, "publish": publish, "wait_s": wait}
    given |= {"promote": False if no_promote else None, "force_run": force or None}
    wishes |= {name: value for name, value in given.items() if value is not None}
    wishes["set"] = {**wishes.get("set", {}), **_values(values or [])}
    outcome = to_end(
        wishes, root=Path(), tell=lambda step, line: print_lines([f"{step} | {line}"], err=as_json)
    )
    if as_json:
        print_json(outcome.as_json())
    else:
        print_lines(["", *summary.markdown(outcome).splitlines()])
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


@command("""
    mmpipe ui
    mmpipe ui --port 4300 --no-browser
    mmpipe ui --webhook https://hooks.example.org/retraining
""")
def ui(
    port: Annotated[int, typer.Option(help="Of the server, on this machine only.")] = 4200,
    webhook: Annotated[
        str, typer.Option(help="Alarms are posted to this URL.", metavar="URL", envvar="MMPIPE_WEBHOOK")
    ] = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Start Prefect's server and the scheduler for this workspace; they end with this command."""
    flags = ["--no-browser"] if no_browser else []
    os.environ["MMPIPE_WEBHOOK"] = webhook  # others can read a command line, and the URL may be a secret
    _become("flows.server", "--port", str(port), *flags)


@command("""
    mmpipe schedule --cron "0 3 * * 1" --timezone Europe/Berlin
    mmpipe schedule --cron "*/30 * * * *" --options nightly.json
    mmpipe schedule list
    mmpipe schedule pause
    mmpipe schedule resume --flow watch
    mmpipe schedule remove
""")
def schedule(
    action: Annotated[
        Literal["list", "pause", "resume", "remove"], typer.Argument(help="What to do with the schedules.")
    ] = "list",
    cron: Annotated[
        str, typer.Option(help="Five fields: minute, hour, day, month, weekday; it replaces all others.")
    ] = "",
    timezone: Annotated[
        str | None, typer.Option(help="With --cron: as in the tz database; UTC unless given.")
    ] = None,
    flow: Annotated[
        Literal["retrain", "watch", "drift-check", "reproduce-champion", "predict"] | None,
        typer.Option(help="What is scheduled; unless given, list shows all, and retrain is meant."),
    ] = None,
    options: Annotated[
        Path | None,
        typer.Option(
            help="With --cron: a JSON file with the options of every run, as `mmpipe run` takes it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set, list, pause, resume or remove the schedules in the server that `mmpipe ui` runs here."""
    if cron and action != "list":
        raise UsageError("usage", f"--cron sets a schedule and cannot be given with {action!r}")
    if options is not None and not (cron and flow in (None, "retrain")):
        raise UsageError("usage", "--options goes with --cron, and with the flow retrain")
    if timezone is not None and not cron:
        raise UsageError("usage", "--timezone goes with --cron")
    if cron and flow == "predict":
        raise UsageError("usage", "predict needs a table and an output: schedule it in the UI")
    flags = ["--json"] if as_json else []
    flags += ["--flow", flow] if flow else []
    flags += ["--options", json.dumps(_wishes(options))] if options is not None else []
    _become("flows.schedule", action, f"--cron={cron}", "--timezone", timezone or "UTC", *flags)


def _become(module: str, *arguments: str) -> NoReturn:
    """Go on as another program, which alone needs Prefect."""
    if importlib.util.find_spec("prefect") is None:
        raise NotFoundError("schedule-extra", "Prefect is not installed")
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


def _wishes(file: Path | None) -> dict[str, Any]:
    """The fields that a file gives."""
    if file is None:
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError("usage", f"is no JSON ({error})", where=str(file)) from None
    if not isinstance(found, dict) or not isinstance(found.get("set", {}), dict):
        raise UsageError("usage", "is no JSON object with options", where=str(file))
    return found


def _values(given: list[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as JSON has it, else as text."""
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError("usage", f"--set is KEY=VALUE, not {pair!r}")
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values
