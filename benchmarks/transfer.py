"""What a model of emoji in one art style is worth in the other: image, text and both, on the same emoji.

    python benchmarks/transfer.py --into DIR                       # both ways, seeds 0, 1, 2
    python benchmarks/transfer.py --into DIR --seeds 0 --jobs 2

Seed s draws the first weights and everything random, and tests on fold s of five: on the emoji that the
model's own split holds out, drawn in either style. What training leaves answers from the raw pictures and
names, as `mmpipe predict` does. A finished training is DIR/STYLE-SEED.json; killed, the same command goes on.
"""

import argparse
import csv
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import borrowing
import pyarrow.parquet as pq
import results
from results_page import grid, spread

from mmpipe import files
from mmpipe import predict as prediction

STYLES = ("google", "twitter")
GIVEN = ("image", "text", "image+text")
Accuracies = dict[str, dict[str, float]]
"""{style of the test samples: {what is given: accuracy}}"""


def main() -> None:
    """Parse, train what is not trained, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, help="a folder for workspaces and results")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side, one thread each")
    options = parser.parse_args()
    into = options.into.resolve()
    for style in STYLES:
        results.prepare(into / style, "emoji", {"data.manifests": [f"data/corpus/{style}.csv"]})
    pairs = list(product(STYLES, options.seeds))
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda pair: one(into, *pair), pairs))
    print("\n".join(table(dict(zip(pairs, found, strict=True)))))


def one(into: Path, style: str, seed: int) -> Accuracies:
    """The accuracies of a model of this style and seed, trained unless it was."""
    kept = into / f"{style}-{seed}.json"
    if not kept.exists():
        folder = into / f"training-{style}-{seed}"
        changes = [f"train.seed={seed}", f"split.fold={seed % 5}"]
        borrowing.furnish(folder, into / style, changes)
        borrowing.train(folder)
        files.write_bytes(kept, files.canonical_json(measure(folder)).encode())
    accuracies: Accuracies = json.loads(kept.read_text())
    return accuracies


def measure(folder: Path) -> Accuracies:
    """Of a trained workspace, on its test samples in their own style and in the other."""
    predictor = prediction.load(folder / "data/trained")
    splits = pq.read_table(folder / "data/splits.parquet").to_pylist()
    test = {row["id"].partition("/")[2] for row in splits if row["split"] == "test"}
    found: Accuracies = {}
    for style in STYLES:
        manifest = folder / f"data/corpus/{style}.csv"
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["group"] in test]
        found[style] = {given: accuracy(predictor, manifest.parent, rows, given) for given in GIVEN}
        found[style]["samples"] = len(rows)
    return found


def accuracy(predictor: prediction.Predictor, folder: Path, rows: list[dict[str, str]], given: str) -> float:
    """Share of the rows that are given the right category. `folder`: of the manifest."""
    samples = [
        prediction.Sample(
            folder / row["image"] if "image" in given else None, row["text"] if "text" in given else None
        )
        for row in rows
    ]
    answers: list[Any] = list(predictor.predict_many(samples))
    return statistics.mean(
        float(answer.label == row["label"]) for answer, row in zip(answers, rows, strict=True)
    )


def table(found: dict[tuple[str, int], Accuracies]) -> list[str]:
    """A row for each style to learn from and each to test on: mean ± sd over seeds."""
    cells = []
    for learned, tested in product(STYLES, STYLES):
        mine = [of[tested] for (style, _), of in sorted(found.items()) if style == learned]
        cells.append([learned, tested, *(spread([one[given] for one in mine]) for given in GIVEN)])
    return grid(["trained on", "tested on", *GIVEN], cells)


if __name__ == "__main__":
    main()
