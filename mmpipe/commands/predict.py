"""The command `predict`: one sample, or a table of them."""

import math
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmpipe.commands.console import Json, command, listed, print_json, print_lines
from mmpipe.errors import UsageError
from mmpipe.paths import BUNDLE, PARAMS

if TYPE_CHECKING:
    from mmpipe.predict import Predictor, Sample

SHORTEST_S, LONGEST_S = 0.1, 600.0
"""Of a recording with the microphone."""
_KEYS = ("id", "image", "text", "text_path", "history", "audio")


@command("""
    mmpipe predict --image cat.jpg --text "a small cat"
    mmpipe predict --audio miaow.wav --json
    mmpipe predict --image cat.jpg --text "is it old?" --history '[["what is it?", "a cat"]]'
    mmpipe predict --image cat.jpg --text "a small cat" --explain
    mmpipe predict --image cat.jpg --text "a small cat" --saliency cat.html
    mmpipe predict --microphone 5s
    mmpipe predict --microphone 2.5s --device "USB Audio" --image cat.jpg
    mmpipe predict --text "a small cat" --model fusion#prod --from /srv/models.git
    mmpipe predict rows.csv -o predictions.parquet
    mmpipe predict rows.csv -o predictions.csv --column image=photo --column text=caption
""")
def predict(  # noqa: PLR0913 (the options of one command)
    table: Annotated[Path | None, typer.Argument(help="A CSV, JSONL or Parquet table of samples.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording.")] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Turns before the question in --text, as JSON: [[question, answer], …]."),
    ] = None,
    microphone: Annotated[
        str | None, typer.Option(help="Record now, for so long: 5s, 0.5s, 1min.", metavar="DURATION")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Of --microphone: its name, a part of it, or its number.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="The folder of a bundle, or a version such as fusion#prod, which is pulled.")
    ] = str(BUNDLE),
    source: Annotated[
        str | None, typer.Option("--from", help="The repository that publishes the model: a folder or a URL.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For a table: the .parquet, .jsonl or .csv to write."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="KEY=NAME of a table's column; unless given, as params.yaml here says."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="For one sample: say what each modality adds.")
    ] = False,
    saliency: Annotated[
        Path | None,
        typer.Option(help="For one sample: an .html to write: where in it the answer comes from."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict one sample, of any modalities, or a table."""
    sound = {"--audio": audio, "--microphone": microphone}
    given = [name for name, value in {"--image": image, "--text": text, **sound}.items() if value is not None]
    if (table is None) != (output is None) or (table is None) == (not given):
        what = "give either --image, --text and a sound as far as there are such, or a TABLE with -o FILE"
        raise UsageError("usage", what)
    if table is not None and (explain or saliency):
        option = "--explain" if explain else "--saliency"
        raise UsageError("usage", f"{option} is for one sample, not for a table")
    if (audio is not None and microphone is not None) or (device is not None and microphone is None):
        raise UsageError("usage", "--microphone stands in the place of --audio, and --device goes with it")
    if table is not None and output is not None:
        _predict_table((model, source), table, output, column or [], as_json=as_json)
        return
    seconds = None if microphone is None else _seconds(microphone)
    from mmpipe.predict import Sample, load

    predictor = load(model, source=source, device="cpu" if saliency else None)
    heard = None if seconds is None else _record(seconds, device, predictor.modalities)
    ask = predictor.explain if explain else predictor.predict
    sample = Sample(image, _dialogue(predictor, text, history), heard or audio)
    found = ask(image=sample.image, text=sample.text, audio=sample.audio)
    if as_json:
        print_json(vars(found))
    else:
        first, *rest = predictor.bundle.task.lines(found)
        print_lines([f"{first}  (from {'+'.join(found.modalities)})", *rest])
        share = predictor.bundle.task.kind != "number"
        print_lines(_shares(vars(found), share=share) if explain else [])
    if saliency is not None:
        _draw(predictor, sample, saliency)


def _draw(predictor: "Predictor", sample: "Sample", page: Path) -> None:
    """A page about the one sample."""
    from mmpipe import files, pages
    from mmpipe.saliency import of_sample

    shown = of_sample(predictor, "the sample", sample.text, predictor.features(sample))
    files.write_bytes(page, pages.render("sample.html.j2", items=[shown], model=predictor.name).encode())


def _seconds(given: str) -> float:
    """`5s`, `5`, `500ms` or `1min`, in seconds."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(ms|s|min|)", given.strip())
    seconds = float(found[1]) * {"ms": 0.001, "min": 60.0}.get(found[2], 1.0) if found else 0.0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        what = f"--microphone takes a duration from {SHORTEST_S:g}s to {LONGEST_S:g}s, as 5s, not {given!r}"
        raise UsageError("usage", what)
    return seconds


def _record(seconds: float, device: str | None, modalities: Sequence[str]) -> bytes:
    """What the microphone hears, as the bytes of a file; on stderr the level, and what is odd about it."""
    if "audio" not in modalities:
        what = f"the model takes {', '.join(modalities)}, and no sound"
        raise UsageError("usage", what, fix="leave out --microphone")
    from mmpipe.media import audio, microphone

    def begin(found: microphone.Device) -> None:
        print_lines([f"recording {seconds:g} s from {found.name!r}, {found.sample_rate:,} Hz"], err=True)

    recording = microphone.record(seconds, device=device, begin=begin, watch=partial(_level, seconds))
    if sys.stderr.isatty():
        typer.echo("", err=True)
    facts = audio.inspect(recording.wav)
    odd = [*facts.warnings, *([f"audio: {recording.gaps} gaps"] if recording.gaps else [])]
    told = f"recorded {facts.duration_s:g} s, peak {_decibels(facts.peak)}"
    print_lines(["; ".join([told, *odd])], err=True)
    return recording.wav


def _level(total: float, seconds: float, peak: float) -> None:
    """On a terminal: how long it has been, and how loud it is, from -60 dB to full scale."""
    if sys.stderr.isatty():
        loud = max(0, min(30, round(30 + 10 * math.log10(max(peak, 1e-9)))))
        line = f"\r\x1b[K{seconds:5.1f} of {total:g} s  [{'#' * loud:30}] {_decibels(peak)}"
        typer.echo(line, err=True, nl=False)


def _decibels(peak: float) -> str:
    return f"{20 * math.log10(peak):.0f} dB" if peak > 0 else "none"


def _dialogue(predictor: "Predictor", text: str | None, history: str | None) -> str | None:
    """The text, behind its earlier turns."""
    if history is None:
        return text
    from mmpipe.answers import turns

    if not (text or "").strip():
        raise UsageError("usage", "--history needs --text, the question that comes next")
    try:
        said = turns.read(history)
    except ValueError as error:
        raise UsageError("usage", f"--history {error}") from None
    if said:
        _check_turns(predictor, "no --history")
    return turns.join(said, text or "")


def _check_turns(predictor: "Predictor", without: str) -> None:
    """`without`: what to give to a model whose texts are no dialogues."""
    if predictor.turns is None:
        what = f"{predictor.name} was trained without earlier turns"
        raise UsageError("usage", what, fix=f"give {without}")


def _shares(found: dict[str, Any], *, share: bool) -> list[str]:
    """What each modality adds: to a probability in percentage points, else to the number."""

    def told(value: float, sign: str = "") -> str:
        return f"{100 * value:{sign}6.1f}" if share else f"{value:{sign}9.4g}"

    added = [f"  {told(one, '+')}   {m}" for m, one in found["contributions"].items()]
    head = "what each modality adds" + (", in points:" if share else ":")
    return [head, f"  {told(found['baseline'])}   nothing given", *added]


def _predict_table(
    model: tuple[str, str | None], table: Path, output: Path, column: list[str], *, as_json: bool
) -> None:
    columns = _columns(column)
    from mmpipe.predict import load
    from mmpipe.predict_table import predict_table
    from mmpipe.progress import bar

    predictor = load(model[0], source=model[1])
    if columns.get("history") and "text" in predictor.modalities:
        _check_turns(predictor, "--column history=")
    counts = predict_table(predictor, table, output, columns=columns, watch=partial(bar, "predict"))
    if as_json:
        print_json(vars(counts))
        return
    refused = sum(counts.refused.values())
    print_lines(
        [f"{counts.rows} rows = {counts.predicted} predicted + {refused} refused{listed(counts.refused)}"]
    )


def _columns(given: list[str]) -> dict[str, str | None]:
    """Which column of a table holds what: as params.yaml here says, changed by `given`."""
    from mmpipe import manifest, params

    own = params.load(PARAMS).data.columns.model_dump() if PARAMS.is_file() else manifest.COLUMNS
    columns = {**own, "target": None, "group": None, "split": None}
    for pair in given:
        key, equals, name = pair.partition("=")
        if not equals or key not in _KEYS:
            named = f"{', '.join(_KEYS[:-1])} or {_KEYS[-1]}"
            raise UsageError("usage", f"--column is {named} = NAME, not {pair!r}")
        columns[key] = name or None
    return columns
