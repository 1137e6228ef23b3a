"""Ridge regression between frozen vectors of two modalities: what `retrieve` is held against, on its folds.

    python benchmarks/ridge.py --workspace DIR      # a workspace of the recipe `retrieval`, after `extract`

For each fold: both sides standardised and the map fitted on its train split, the penalty chosen by recall on
val, then every test sample looks for itself among all of them by cosine, as the task's own metrics have it.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import borrowing
import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mmpipe import schema, tables
from mmpipe.retrieval_scorecard import KS, ranks

PENALTIES = (100.0, 300.0, 1000.0, 3000.0, 10000.0)
DIRECTIONS = (("image", "text"), ("text", "image"))


def main() -> None:
    """A row a direction: recall at 1, 5, 10 and the median rank, mean ± sd over the folds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    workspace = options.workspace.resolve()
    vectors = {m: vectors_of(workspace / "data/features" / m) for m in ("image", "text")}
    found: dict[tuple[str, str], list[list[float]]] = {direction: [] for direction in DIRECTIONS}
    for fold in range(options.folds):
        splits = splits_of(workspace, fold)
        for direction in DIRECTIONS:
            found[direction].append(one(vectors, splits, direction))
    for direction, rows in found.items():
        shown = [f"{statistics.mean(of):.3f} ± {statistics.stdev(of):.3f}" for of in zip(*rows, strict=True)]
        print(f"{' to '.join(direction):<14}", *shown)


def vectors_of(folder: Path) -> dict[str, np.ndarray]:
    rows = [row for path in tables.shards(folder) for row in pq.read_table(path).to_pylist()]
    return {row["id"]: np.frombuffer(row["value"], np.float32) for row in rows}


def splits_of(workspace: Path, fold: int) -> dict[str, list[str]]:
    """{split: ids} of one fold."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        borrowing.furnish(folder, workspace, [f"split.fold={fold}"])
        borrowing.make(folder, "splits.parquet")
        rows = tables.read(folder / "data/splits.parquet", schema.SPLIT).to_pylist()
    return {name: [row["id"] for row in rows if row["split"] == name] for name in schema.SPLITS}


def one(vectors: dict, splits: dict[str, list[str]], direction: tuple[str, str]) -> list[float]:
    """Recall at 1, 5 and 10 and the median rank on test, by the penalty that is best on val."""
    parts = {
        split: [np.stack([vectors[m][name] for name in names]) for m in direction]
        for split, names in splits.items()
    }
    scales = [StandardScaler().fit(of) for of in parts["train"]]
    scaled = {
        split: [s.transform(of) for s, of in zip(scales, both, strict=True)] for split, both in parts.items()
    }
    fitted = [Ridge(alpha=penalty).fit(*scaled["train"]) for penalty in PENALTIES]

    def figures(model: Ridge, split: str) -> list[float]:
        found = ranks(model.predict(scaled[split][0]), scaled[split][1])
        return [*(float((found <= k).mean()) for k in KS), float(np.median(found))]

    best = max(fitted, key=lambda model: sum(figures(model, "val")[:-1]))
    return figures(best, "test")


if __name__ == "__main__":
    main()
