"""The outcome of a run as Markdown, and in one sentence."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmpipe.registry.messages import HEADLINES
from mmpipe.retrain.outcome import Outcome

_SHOWN = 5


def sentence(outcome: Outcome) -> str:
    """What a commit's first line says."""
    rows = outcome.landed.get("rows", 0)
    said = [f"{rows} new samples" if rows else "no new samples"]
    found = outcome.after.get("evaluate") or {}
    name = next((name for name in HEADLINES if isinstance(found.get(name), float)), None)
    said += [f"{HEADLINES[name]} {found[name]:.3f}"] if name else []
    said += [f"the gate says {outcome.verdict['verdict']}"] if outcome.verdict else []
    return f"Retrain: {', '.join(said)}"


def markdown(outcome: Outcome) -> str:
    """What changed, which stages ran, how good it became, and why it was or was not promoted."""
    return "\n".join(_lines(outcome)).strip() + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    yield f"# {outcome.run}: {outcome.status}"
    yield ""
    yield outcome.reason or "It ran to its end."
    yield f"Started at commit `{outcome.started_at[:12]}`, {outcome.seconds:.0f} s."
    yield from _data(outcome)
    yield from _stages(outcome)
    yield from _metrics(outcome)
    yield from _gate(outcome)
    yield from _result(outcome)


def _data(outcome: Outcome) -> Iterator[str]:
    yield from ("", "## What changed", "")
    landed = outcome.landed
    if rows := landed.get("rows", 0):
        labels = ", ".join(f"{count} {cell(label)}" for label, count in landed["labels"].items())
        yield f"- {rows} new samples with {landed['files']} files, {landed['size']:,} bytes: {labels}"
    elif landed.get("known"):
        yield f"- no new samples: all {landed['known']} were known"
    if left := landed.get("left"):
        yield f"- {len(left)} rows stay in the landing folder"
        yield from (f"  - {cell(why)}" for why in left[:_SHOWN])
    if outcome.carried:
        yield f"- landings of earlier runs that came along: {len(outcome.carried)}"
    yield from (f"- import {cell(name)} has new data" for name in outcome.updated)
    yield from (f"- {_code(key)} = {_code(value)}" for key, value in outcome.values.items())
    before, after = (_counts(found) for found in (outcome.before, outcome.after))
    yield from (
        f"- {name.replace('_', ' ')}: {before.get(name, 'none')} before, {after[name]} now"
        for name in after
        if before.get(name) != after[name]
    )
    yield f"- files: {', '.join(map(_code, outcome.changed)) or 'none'}"
    yield from _samples(outcome.samples)


def _samples(found: Mapping[str, Any]) -> Iterator[str]:
    """Which samples came, went and changed since the commit; how labels and sizes shifted."""
    if not found:
        return
    yield from ("", "| samples | | of them |", "|---|---|---|")
    for kind in ("added", "removed", "changed", "relabelled"):
        if count := found[kind]["count"]:
            more = ", …" if count > len(found[kind]["ids"]) else ""
            yield f"| {kind} | {count:,} | {', '.join(map(_code, found[kind]['ids']))}{more} |"
    yield f"| in all | {found['old']:,} → {found['new']:,} | |"
    yield f"| labels | {found['labels']['shift']:.3f} | of the shares moved |"
    for size in found["sizes"]:
        old, new = (
            f"{size[side]['median']:g}" if size[side]["samples"] else "none" for side in ("old", "new")
        )
        yield f"| {size['name']} | {old} → {new} | median |"


def _stages(outcome: Outcome) -> Iterator[str]:
    if not outcome.stages:
        return
    yield from ("", "## Stages", "", "| stage | | s |", "|---|---|---|")
    yield from (f"| {one.name} | {one.status} | {one.seconds:.1f} |" for one in outcome.stages)
    failed = next((one for one in outcome.stages if one.name == outcome.stage_failed), None)
    if failed is not None:
        yield from ("", f"The last lines of {failed.name}:", "", "```")
        yield from (line.replace("```", "'''") for line in failed.lines[-20:])
        yield "```"


def _metrics(outcome: Outcome) -> Iterator[str]:
    figures = (outcome.verdict or {}).get("figures") or {}
    new, old = figures.get("challenger"), figures.get("champion")
    if not new:
        return
    yield from ("", "## Metrics", "", "| on the test samples | champion | new |", "|---|---|---|")
    for name, value in new.items():
        if isinstance(value, int | float):
            yield f"| {name} | {_number((old or {}).get(name))} | {_number(value)} |"


def _gate(outcome: Outcome) -> Iterator[str]:
    if outcome.verdict is None:
        return
    against = outcome.verdict.get("champion")
    over = f" over {against}" if against else ""
    yield from ("", f"## Gate: {outcome.verdict['verdict']}{over}", "")
    yield from (f"- {cell(reason)}" for reason in outcome.verdict.get("reasons", []))


def _result(outcome: Outcome) -> Iterator[str]:
    if not (outcome.commit or outcome.published):
        return
    yield from ("", "## What came of it", "")
    if outcome.commit:
        yield f"- commit `{outcome.commit[:12]}` on branch `{outcome.branch}`"
    if outcome.published:
        verb = "would be published as" if outcome.published["dry_run"] else "published as"
        yield f"- {verb} `{outcome.published['tag']}` ({outcome.published['why']})"
    if outcome.promoted:
        yield f"- `{outcome.promoted['tag']}`; before: {outcome.promoted['before'] or 'none'}"


def _counts(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.get("ingest", {}).items() if isinstance(value, int)}


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _code(value: Any) -> str:
    """Text from strangers in a code span, also of a table."""
    text = " ".join(str(value).split())
    return f"`{text.replace('`', chr(39)).replace('|', '/')}`"


def cell(value: Any) -> str:
    """Text from strangers, harmless in Markdown."""
    text = " ".join(str(value).split())
    return "".join(f"\\{mark}" if mark in "\\`*_[]<>|#" else mark for mark in text)
