"""The command `gate`: may the new model take the champion's place."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.paths import BUNDLE, PARAMS

CHAMPION = "fusion#prod"
if TYPE_CHECKING:
    from mmpipe.verdict import Verdict


@command("""
    mmpipe gate
    mmpipe gate --json
    mmpipe gate --champion fusion@v1.1.0
    mmpipe gate --champion ../old/models/fusion --challenger models/fusion
""")
def gate(
    champion: Annotated[
        str, typer.Option(help="The model to beat: a stage, a version or the folder of a bundle.")
    ] = CHAMPION,
    challenger: Annotated[Path, typer.Option(help="The folder of the new bundle.")] = BUNDLE,
    as_json: Json = False,
) -> None:
    """Compare a new model with the champion on the test samples here; exit status 5 = the champion stays."""
    verdict = judged(champion, challenger)
    told = verdict.as_json()
    if as_json:
        print_json(told)
    else:
        print_lines(_lines(told))
    if not verdict.promote:
        what = f"{challenger} may not take the place of {told['champion']}"
        raise InvalidError("gate-refused", what, done="the champion stays")


def judged(champion: str, challenger: Path = BUNDLE) -> "Verdict":
    """The verdict on a bundle, by the params.yaml and the test samples of the current folder.

    Raises as `params.load`, `trial.run`, `predict.load` and, for a champion by tag, `resolve_folder` do.
    """
    from mmpipe import bundle, params, runtime, testset, trial
    from mmpipe import gate as rules
    from mmpipe.predict import load

    asked = params.load(PARAMS)
    thresholds = rules.Thresholds(**asked.gate.model_dump(), bins=asked.evaluate.calibration_bins)
    device = str(runtime.select(precision="fp32", threads=asked.evaluate.threads).device)
    folder, runners = _folder(champion), []
    if folder is not None:
        origin = bundle.read(folder).origin
        runners.append(trial.Runner(origin.tag if origin else champion, folder, load(folder, device=device)))
    runners.append(trial.Runner(str(challenger), challenger, load(challenger, device=device)))
    test, contenders = trial.run(Path(), testset.read(Path()), runners)
    task = runners[-1].predictor.bundle.task
    verdict = rules.judge(test, contenders[0] if folder else None, contenders[-1], thresholds, task.rules)
    notes = trial.notes(runners) if asked.data.columns.history else []
    return replace(verdict, reasons=[*verdict.reasons, *notes])


def _folder(champion: str) -> Path | None:
    """Where the champion lies; None where nobody holds the stage yet."""
    if Path(champion).is_dir():
        return Path(champion)
    from mmpipe.registry.pull import resolve_folder

    try:
        return resolve_folder(champion, None)
    except NotFoundError as error:
        if error.code == "tag-missing" and champion == CHAMPION:  # nobody holds it yet; others were asked for
            return None
        raise


def _lines(verdict: dict[str, Any]) -> list[str]:
    """The verdict for people."""
    figures = verdict["figures"]
    over = f" over {verdict['champion']}" if verdict["champion"] else ""
    size = f"{figures['samples']} test samples in {figures['groups']} groups"
    head = f"{verdict['verdict']} {figures['challenger']['name']}{over}: {size}"
    return [head, *(f"  {reason}" for reason in verdict["reasons"])]
