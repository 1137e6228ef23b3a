"""Metrics of every subset of modalities, calibration, predictions."""

from typing import Any

import pyarrow as pa

from mmpipe import evaluate, files, importance, params, paths, runtime, schema, tables
from mmpipe.model.checkpoint import Bundle, load_bundle
from mmpipe.scorecard import Scores
from mmpipe.stages.process import run
from mmpipe.tasks.task import Asked


def main() -> None:
    """Score val and test with the bundle; write metrics, plots, predictions and what they tell."""
    chosen = params.load(paths.PARAMS).evaluate
    device = runtime.select(precision="fp32", threads=chosen.threads).device
    bundle = load_bundle(paths.TRAINED, device=device, for_tables=True)
    features = {m: paths.features(m) for m in schema.MODALITIES}
    val, test = (
        evaluate.score(bundle, features, paths.SPLITS, split, batch_size=chosen.batch_size)
        for split in ("val", "test")
    )
    task, decoding = bundle.task, bundle.decoding
    asked = Asked(chosen.bootstrap, chosen.calibration_bins, _offsets(bundle))
    found = task.measure(test, decoding, asked)
    predictions = task.predictions([val, test], decoding)
    sizes = {"batch_size": chosen.batch_size, "resamples": chosen.bootstrap}
    found |= _importance(bundle, test, predictions, repeats=chosen.permutations, **sizes)
    tables.write(paths.PREDICTIONS, predictions)
    task.plots(paths.PLOTS, test, found, decoding)
    files.write_json(paths.FINDINGS, _told(task.findings(found, predictions, decoding), found))
    files.write_json(paths.METRICS / "evaluate.json", found)
    print("\n".join([task.summary(found), *map("warning: {}".format, importance.warnings(found))]))  # noqa: T201


def _offsets(bundle: Bundle) -> dict[str, float]:
    """What training added for the sake of rare classes; nothing where all classes got the same."""
    offsets = {row["label"]: row["offset"] for row in bundle.metrics.get("classes", [])}
    return offsets if any(offsets.values()) else {}


def _importance(
    bundle: Bundle, test: Scores, predictions: pa.Table, *, repeats: int, batch_size: int, resamples: int
) -> dict[str, Any]:
    """How much each modality matters, where the task can tell."""
    task = bundle.task
    if not task.weighed or len(bundle.modalities) < 2:
        return {}
    repeats = importance.repeats(task, repeats, len(test.ids))
    if task.needs:
        having = importance.answerable(task, test) & test.present.get("text", False)
        words = evaluate.dealt(test, having, repeats=repeats) if test.words else []
        evidence = importance.Evidence(test, words=words)
    else:
        features = {m: paths.features(m) for m in schema.MODALITIES}
        data = evaluate.held_out(bundle, features, paths.SPLITS, "test")
        nothing = evaluate.logits(bundle.model, data, [""], batch_size=batch_size)[""]
        shuffled = evaluate.shuffled(bundle.model, data, repeats=repeats, batch_size=batch_size)
        evidence = importance.Evidence(test, nothing, shuffled)
    rows = predictions.select(["id", "split", "target"]).to_pylist()
    cells = {row["id"]: row["target"] for row in rows if row["split"] == "test"}
    return importance.measure(task, bundle.decoding, evidence, cells, resamples=resamples)


def _told(told: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The findings, with what all tasks have in common."""
    for part in told["sections"]:
        if part["key"] in ("modalities", "decoding"):
            part["blocks"] += importance.table(found)
    return {**told, "warnings": importance.warnings(found)}


if __name__ == "__main__":
    run(main)
