"""Stage `extract`: the feature table of one modality."""

import sys

from mmpipe import paths, schema, tables
from mmpipe.errors import UsageError
from mmpipe.features.extract import TIMEOUT_S, extract
from mmpipe.features.extractor import Extractor
from mmpipe.params import load
from mmpipe.stages import pretrained
from mmpipe.stages.process import run


def main() -> None:
    """`python -m mmpipe.stages.extract audio|image|text`."""
    modality = sys.argv[1] if len(sys.argv) == 2 else ""
    if modality not in schema.MODALITIES:
        raise UsageError("usage", f"needs one of {', '.join(schema.MODALITIES)}, not {modality!r}")
    params = load(paths.PARAMS)
    section = getattr(params, modality)
    settings = pretrained.settings(modality, section)
    if modality == "text":
        tokenizer = paths.TOKENIZER.read_text("utf-8")
        settings = {"tokenizer_json": tokenizer, **{key: settings[key] for key in ("max_tokens", "turns")}}
    samples = tables.read(paths.SAMPLES, schema.SAMPLES)
    counts = extract(
        samples,
        Extractor(modality, settings, pretrained.frozen(modality, section)),
        out=paths.features(modality),
        store=paths.STORE,
        timeout_s=max(TIMEOUT_S, params.ingest.timeout_s),
    )
    for failure in counts.failures:
        print(failure, file=sys.stderr)  # noqa: T201
    print(counts)  # noqa: T201
    counts.check()


if __name__ == "__main__":
    run(main)
