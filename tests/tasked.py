"""A workspace of one task, run from ingest to report in this process: shapes, with targets of its own."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from ruamel.yaml import YAML

from mmpipe import init, paths, schema
from mmpipe.corpora import shapes
from mmpipe.stages import bundle, code, evaluate, extract, ingest, report, split, tokenizer, train

SMALL = {
    "image": {"size": 32},
    "audio": {"n_mels": 16, "max_duration_s": 0.6},
    "text": {"vocab_size": 300, "max_tokens": 24},
    "train": {"epochs": 4, "threads": 1, "lr": 0.005, "batch_size": 16},
    "evaluate": {"bootstrap": 50, "threads": 1},
    "gate": {"resamples": 200, "max_latency_ratio": None},
    "report": {"examples": 2},
}


def write(
    root: Path, target: Callable[[dict[str, str], int], str] | None, *, n: int = 90
) -> list[dict[str, str]]:
    """`data/raw/manifest.csv` of `n` shapes; `target`: row and number → its cell, None = no such column."""
    raw = root / paths.RAW
    raw.mkdir(parents=True)
    shapes.write(raw, n=n)
    with (raw / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["cell"] = target(row, number) if target else ""
    with (raw / "manifest.csv").open("w", newline="") as file:
        names = ["id", "image", "text", "audio", *(["cell"] if target else [])]
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def params(root: Path, **sections: dict[str, object]) -> None:
    """`params.yaml`: `SMALL`, with `sections` on top."""
    tree = {
        "data": {"manifests": ["data/raw/manifest.csv"]},
        **{name: dict(of) for name, of in SMALL.items()},
    }
    for name, of in sections.items():
        tree.setdefault(name, {}).update(of)
    (root / paths.PIPELINE).write_text(init.template("pipeline.yaml"))
    with (root / paths.PARAMS).open("w") as file:
        YAML().dump(tree, file)


def run(root: Path) -> None:
    """Every stage but fetch, in the order of dvc.yaml."""
    with inside(root):
        for stage in (code, ingest, split, tokenizer):
            stage.main()
        for modality in schema.MODALITIES:
            with mock.patch.object(sys, "argv", ["extract", modality]):
                extract.main()
        for stage in (train, evaluate, bundle, report):
            stage.main()


@contextlib.contextmanager
def inside(root: Path) -> Iterator[None]:
    """The workspace as the current folder."""
    with contextlib.chdir(root):
        yield
