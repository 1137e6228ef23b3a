"""Metrics of every subset of modalities, calibration, predictions."""

from mmpipe import evaluate, files, params, paths, runtime, schema, tables
from mmpipe.model.checkpoint import load_bundle
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
    found = task.measure(test, decoding, Asked(chosen.bootstrap, chosen.calibration_bins))
    predictions = task.predictions([val, test], decoding)
    tables.write(paths.PREDICTIONS, predictions)
    task.plots(paths.PLOTS, test, found, decoding)
    files.write_json(paths.FINDINGS, task.findings(found, predictions, decoding))
    files.write_json(paths.METRICS / "evaluate.json", found)
    print(task.summary(found))  # noqa: T201


if __name__ == "__main__":
    run(main)
