"""Stage `code`: a fingerprint of the code and libraries behind each stage, for DVC to compare."""

from mmpipe import fingerprint, paths
from mmpipe.files import write_json
from mmpipe.stages.process import run

STAGES = ("fetch", "ingest", "split", "tokenizer", "train", "evaluate", "bundle", "report")
MODALITIES = ("audio", "image", "text")
"""As in `schema`, which would import pyarrow here."""


def main() -> None:
    """Write `data/code/<stage>.json` for every stage of `dvc.yaml`."""
    for stage in STAGES:
        write_json(paths.code_fingerprint(stage), fingerprint.of_modules(f"mmpipe.stages.{stage}"))
    for modality in MODALITIES:
        names = ("mmpipe.stages.extract", f"mmpipe.features.{modality}")
        write_json(paths.code_fingerprint(f"extract_{modality}"), fingerprint.of_modules(*names))


if __name__ == "__main__":
    run(main)
