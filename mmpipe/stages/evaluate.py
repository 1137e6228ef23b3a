"""Metrics of every subset of modalities, calibration, predictions."""

from mmpipe import evaluate, files, params, paths, runtime, schema, scorecard, tables
from mmpipe.model.checkpoint import load_bundle
from mmpipe.stages.process import run


def main() -> None:
    """Score val and test with the bundle; write metrics, plots and predictions."""
    chosen = params.load(paths.PARAMS).evaluate
    device = runtime.select(precision="fp32", threads=chosen.threads).device
    bundle = load_bundle(paths.TRAINED, device=device)
    features = {m: paths.features(m) for m in schema.MODALITIES}
    val, test = (
        evaluate.score(bundle, features, paths.SPLITS, split, batch_size=chosen.batch_size)
        for split in ("val", "test")
    )
    bins, temperature = chosen.calibration_bins, bundle.temperature
    found = scorecard.measure(
        test, bundle.labels, temperature=temperature, resamples=chosen.bootstrap, bins=bins
    )
    tables.write(
        paths.PREDICTIONS, scorecard.predictions([val, test], bundle.labels, temperature=temperature)
    )
    scorecard.write_plots(paths.PLOTS, test, found, bundle.labels, bins=bins)
    files.write_json(paths.METRICS / "evaluate.json", found)
    print(scorecard.summary(found))  # noqa: T201


if __name__ == "__main__":
    run(main)
