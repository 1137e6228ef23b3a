"""The command `sweep`: the best parameters, searched for by trials that are DVC experiments."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmpipe.commands.console import Json, command, print_json, print_lines
from mmpipe.terminal import printable

if TYPE_CHECKING:
    from mmpipe.sweep.study import Ended, Study


@command("""
    mmpipe sweep --trials 20 --set train.lr=1e-4..1e-2:log --set model.dim=64,96,128
    mmpipe sweep --trials 30 --set train.lr=1e-4..1e-2:log --set model.dim=64,96,128
    mmpipe sweep --name fusions --trials 12 --set model.fusion=concat,gated --set model.dropout=0..0.5
    mmpipe sweep --trials 8 --set train.batch_size=16..64:16 --no-prune --json
""")
def sweep(  # noqa: PLR0913 (the options of one command)
    trials: Annotated[int, typer.Option(min=1, help="Go on until so many trials have ended, in all.")],
    values: Annotated[
        list[str],
        typer.Option(
            "--set", help="KEY=LOW..HIGH, KEY=LOW..HIGH:log, KEY=LOW..HIGH:STEP or KEY=VALUE,VALUE,…"
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the study; its experiments are NAME-1, NAME-2, …")] = "sweep",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other trials.")] = 0,
    startup: Annotated[
        int, typer.Option(min=1, help="So many trials are drawn at random and not stopped early.")
    ] = 5,
    prune_after: Annotated[
        int, typer.Option(min=1, help="Epochs of every trial, after which a bad one is stopped.")
    ] = 5,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Stop no trial early.")] = False,
    as_json: Json = False,
) -> None:
    """Search for the parameters with the lowest validation loss; stopped anywhere, it goes on from there."""
    from mmpipe.sweep.search import Watch, Wishes, search

    wishes = Wishes(name, values, trials, seed, startup, None if no_prune else prune_after)
    watch = Watch(
        begun=lambda study: print_lines(_begun(study, trials), err=True),
        line=lambda experiment, line: _now(f"{experiment}  {line}"),
        ended=lambda study: _told(_line(study, study.ended()[-1], trials), err=as_json),
    )
    study = search(Path(), wishes, watch)
    if as_json:
        print_json(_as_json(study))
    else:
        print_lines(_end(study, trials))


def _now(line: str) -> None:
    """On a terminal, what is going on, in one line that the next one takes the place of."""
    if sys.stderr.isatty() and line.strip():
        width = shutil.get_terminal_size().columns - 1
        typer.echo(f"\r\x1b[K{printable(line)[:width]}", err=True, nl=False)


def _told(line: str, *, err: bool) -> None:
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", err=True, nl=False)
    print_lines([line], err=err)


def _begun(study: "Study", trials: int) -> list[str]:
    done = len(study.ended())
    until = f"{done} of {trials} trials ended before" if done else f"{_trials(trials)} to do"
    return [f"sweep {study.name}: {until}, each from commit {study.plan.commit[:12]}, by {study.plan.metric}"]


def _line(study: "Study", one: "Ended", trials: int) -> str:
    """`trial 3/20  sweep-3  train.lr 0.0012  val_loss 1.0424  best 1.0111 sweep-2`."""
    values = [f"{key} {_short(value)}" for key, value in _chosen(study, one).items()]
    result = f"{study.plan.metric} {one.value:.4f}" if one.value is not None else f"{one.state} {one.reason}"
    number = one.experiment.rpartition("-")[2]
    best = study.best()
    told = [f"best {best.value:.4f} {best.experiment}"] if best and best.value is not None else []
    return "  ".join([f"trial {number}/{trials}", one.experiment, *values, result, *told])


def _end(study: "Study", trials: int) -> list[str]:
    ended, best = study.ended(), study.best()
    counts = Counter(one.state for one in ended)
    listed = ", ".join(
        f"{counts[state]} {state}" for state in ("complete", "pruned", "failed") if counts[state]
    )
    if best is None:
        return [f"{_trials(len(ended))}: {listed}; none has a figure"]
    return [
        f"best of {_trials(len(ended))} ({listed}): {best.experiment}, {study.plan.metric} {best.value}",
        *(f"  {key}: {_short(value)}" for key, value in _chosen(study, best).items()),
        *(["every combination has been tried"] if len(ended) < trials else []),
        f"apply it with: dvc exp apply {best.experiment}",
    ]


def _as_json(study: "Study") -> dict[str, Any]:
    best = study.best()
    return {
        "study": study.name,
        "commit": study.plan.commit,
        "metric": study.plan.metric,
        "trials": [vars(one) for one in study.ended()],
        "best": best.experiment if best else None,
    }


def _chosen(study: "Study", one: "Ended") -> dict[str, Any]:
    """What there was a choice of."""
    return {key: value for key, value in sorted(one.params.items()) if len(study.plan.space[key].ends) > 1}


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
