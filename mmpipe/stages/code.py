"""Stage `code`: a fingerprint of the code, libraries and parameters behind each stage, for DVC to compare.

DVC itself sees the values that are written in params.yaml. The values here are those that a stage comes to
use, defaults included, in place of the code that reads them (`fingerprint.LEFT_OUT`).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmpipe import fingerprint, paths, weights
from mmpipe.files import canonical_json, write_json
from mmpipe.params import load
from mmpipe.stages.process import run

MODALITIES = ("audio", "image", "text")
"""As in `schema`, which would import pyarrow here."""
SECTIONS = {
    "fetch": ("corpus",),
    "ingest": ("data", "ingest"),
    "split": ("data", "split"),
    "tokenizer": ("text",),
    **{f"extract_{modality}": (modality,) for modality in MODALITIES},
    "train": ("image", "audio", "text", "model", "augment", "objective", "train"),
    "evaluate": ("evaluate",),
    "bundle": ("corpus", "card"),
    "report": ("report",),
}
"""Stage → the sections of params.yaml that it reads: its `params` in dvc.yaml."""


RUNS = {"bundle": "mmpipe.latency", "report": "mmpipe.saliency"}
"""Stage → what runs the network there, where params.yaml asks for it."""
LEARNING = ("train", "evaluate")
"""Stages that run code of the workspace's task."""
JUDGES = {
    "train": (
        *("answer_scorecard", "findings", "guards", "label_findings", "metrics", "multilabel_scorecard"),
        *("paired", "regression_scorecard", "retrieval_scorecard", "scorecard", "sheets"),
        *("transcript_scorecard", "uncorrected", "verdict"),
    )
}
"""Modules that a task has at hand in a stage that does not ask for them: what it writes is the same."""


def main() -> None:
    """Write `data/code/<stage>.json` for every stage of `dvc.yaml`."""
    for stage, found in fingerprints(Path()).items():
        write_json(paths.code_fingerprint(stage), found)


def fingerprints(root: Path) -> dict[str, dict[str, Any]]:
    """Stage → what it depends on now: its code and libraries, and the workspace's parameters."""
    loaded = load(root / paths.PARAMS)
    params = loaded.model_dump(mode="json")
    sources = {m: found for m in MODALITIES if (found := getattr(loaded, m).pretrained) is not None}
    known = {modality: weights.identity(source, root) for modality, source in sources.items()}
    runs = dict.fromkeys(SECTIONS, False)
    runs |= {"bundle": loaded.card.latency, "report": loaded.report.saliency > 0}
    return {
        stage: fingerprint.of_modules(
            *modules(stage, params["model"]["task"], known, runs=runs[stage]),
            without=JUDGES.get(stage, ()),
        )
        | {"params": {section: params[section] for section in sections}}
        | _weights(stage, known)
        for stage, sections in SECTIONS.items()
    }


def stale(root: Path) -> list[str]:
    """The stages whose file in a workspace says otherwise; of one without a file nothing is said."""
    if not (root / paths.CODE).is_dir():
        return []
    found = fingerprints(root)
    written = {stage: root / paths.code_fingerprint(stage) for stage in found}
    return [
        stage
        for stage, path in written.items()
        if path.is_file() and path.read_bytes() != canonical_json(found[stage]).encode()
    ]


def modules(stage: str, task: str, pretrained: Collection[str] = (), *, runs: bool = False) -> list[str]:
    """Where a stage's code starts; what is imported by a computed name is not seen: modalities and tasks.

    `pretrained`: the modalities that have pretrained weights. `runs`: whether the stage is asked to run the
    network, which it then loads by name.
    """
    name, _, modality = stage.partition("_")
    more = [f"mmpipe.features.{modality}"] if modality else []
    if modality in pretrained or (name == "train" and pretrained):
        own = pretrained if name == "train" else [modality]
        more += ["mmpipe.features.embedding", "mmpipe.model.width", *_backbones(own)]
    if runs:
        more += [RUNS[name], f"mmpipe.tasks.{task}"]
        more += _backbones(pretrained)
    return [f"mmpipe.stages.{name}", *more, *([f"mmpipe.tasks.{task}"] if stage in LEARNING else [])]


def _backbones(modalities: Collection[str]) -> list[str]:
    """What builds pretrained networks of these, with the versions of Transformers, and of pictures timm."""
    found = ["mmpipe.model.auto"] if modalities else []
    return found + (["mmpipe.model.timm_net"] if "image" in modalities else [])


def _weights(stage: str, known: Mapping[str, str | None]) -> dict[str, Any]:
    """Which pretrained weights a stage reads, where there are any."""
    reads = {"tokenizer": ("text",), "train": MODALITIES, **{f"extract_{m}": (m,) for m in MODALITIES}}
    found = {modality: known[modality] for modality in reads.get(stage, ()) if modality in known}
    return {"weights": found} if found else {}


if __name__ == "__main__":
    run(main)
