"""The command `gate`: may the new model take the champion's place."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.paths import BUNDLE, PARAMS


@command("""
    mmpipe gate
    mmpipe gate --json
    mmpipe gate --champion fusion@v1.1.0
    mmpipe gate --champion ../old/models/fusion --challenger models/fusion
""")
def gate(
    champion: Annotated[
        str, typer.Option(help="The model to beat: a stage, a version or the folder of a bundle.")
    ] = "fusion#prod",
    challenger: Annotated[Path, typer.Option(help="The folder of the new bundle.")] = BUNDLE,
    as_json: Json = False,
) -> None:
    """Compare a new model with the champion on this workspace's test samples; exit status 5 = not better."""
    from mmpipe import gate as rules
    from mmpipe import params, runtime, trial
    from mmpipe.predict import load

    asked = params.load(PARAMS)
    thresholds = rules.Thresholds(**asked.gate.model_dump(), bins=asked.evaluate.calibration_bins)
    device = runtime.select(precision="fp32", threads=asked.evaluate.threads).device
    folder = _folder(champion)
    named = [] if folder is None else [(trial.origin(folder).get("tag", champion), folder)]
    runners = [
        trial.Runner(name, place, load(place, device=str(device)))
        for name, place in [*named, (str(challenger), challenger)]
    ]
    test, contenders = trial.run(trial.read(Path()), runners)
    verdict = rules.judge(test, contenders[0] if named else None, contenders[-1], thresholds)
    if as_json:
        print_json(verdict.as_json())
    else:
        print_lines(_lines(verdict.as_json()))
    if not verdict.promote:
        what = f"{challenger} is not promoted over {named[0][0]}"
        raise InvalidError("gate-refused", what, done="the champion stays")


def _folder(champion: str) -> Path | None:
    """Where the champion lies; None where nobody holds the stage yet."""
    if Path(champion).is_dir():
        return Path(champion)
    from mmpipe.registry.pull import resolve_folder  # type: ignore[import-not-found,unused-ignore]

    try:
        found: Path = resolve_folder(champion, None)
    except NotFoundError as error:
        if error.code == "tag-missing" and "#" in champion:
            return None
        raise
    return found


def _lines(verdict: dict[str, Any]) -> list[str]:
    """The verdict for people."""
    figures = verdict["figures"]
    against = f" over {verdict['champion']}" if verdict["champion"] else ""
    head = f"{verdict['verdict']} {figures['challenger']['name']}{against}"
    size = f"{figures['samples']} test samples in {figures['groups']} groups"
    return [f"{head}: {size}", *(f"  {reason}" for reason in verdict["reasons"])]
