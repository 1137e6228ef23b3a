"""Where every artefact lies, relative to the workspace root (the folder of `dvc.yaml`).

Stages run with the root as their working directory, so these are used as they are.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")

CODE = Path("data/code")
CORPUS = Path("data/corpus")
RAW = Path("data/raw")
SAMPLES = Path("data/samples.parquet")
QUARANTINE = Path("data/quarantine.parquet")
SPLITS = Path("data/splits.parquet")
TOKENIZER = Path("data/tokenizer.json")
FEATURES = Path("data/features")
PREDICTIONS = Path("data/predictions.parquet")
FINDINGS = Path("data/findings.json")
"""What the evaluation tells people: for the report and the card."""

TRAINED = Path("data/trained")
"""The network before its evaluation: a bundle without a card."""
BUNDLE = Path("models/fusion")
METRICS = Path("metrics")
PLOTS = Path("plots")
REPORT = Path("reports/index.html")
TENSORBOARD = Path("logs/tensorboard")

PRIVATE = Path(".mmpipe")
"""Ours alone, outside DVC's outs and git; may be deleted at any time."""
STORE = PRIVATE / "store"
CHECKPOINTS = PRIVATE / "checkpoints"
DOWNLOADS = PRIVATE / "downloads"
MODELS = PRIVATE / "models"
"""Pulled versions, each in a folder of its own."""


def features(modality: str) -> Path:
    """The folder with a modality's feature shards."""
    return FEATURES / modality


def code_fingerprint(stage: str) -> Path:
    """The file with the fingerprint of a stage's code and libraries."""
    return CODE / f"{stage}.json"
