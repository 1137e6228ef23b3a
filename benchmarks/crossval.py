"""Grouped cross-validation of a workspace's own stages: accuracy and macro-F1 of every modality subset.

    python benchmarks/crossval.py                                  # 5 folds, 1 seed, this repository
    python benchmarks/crossval.py --seeds 2 --set train.epochs=20 --set model.image=none

Each (seed, fold) runs `split`, `tokenizer`, `extract text`, `train` and `evaluate` in a folder of its own
that borrows the workspace's samples and its image and audio features, and those of text, too, where
pretrained weights make them, which know of no fold. One thread each.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import borrowing


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path(), help="a workspace after `dvc repro`")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of params.yaml")
    options = parser.parse_args()
    runs = [(seed, fold) for seed in range(options.seeds) for fold in range(options.folds)]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        workspace, folder = options.workspace.resolve(), Path(scratch)
        futures = [pool.submit(run, workspace, folder, seed, fold, options.set) for seed, fold in runs]
        results = [future.result() for future in futures]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print_table(results)
    print(f"\n{len(runs)} runs, {(spent.ru_utime + spent.ru_stime) / len(runs):.0f} CPU s each")


def run(workspace: Path, scratch: Path, seed: int, fold: int, changes: list[str]) -> dict[str, Any]:
    """The metrics of one model."""
    folder = scratch / f"seed{seed}-fold{fold}"
    borrowing.furnish(folder, workspace, [f"split.fold={fold}", f"train.seed={seed}", *changes])
    found = borrowing.train(folder).found
    print(f"seed {seed} fold {fold}: {found['accuracy']:.3f}", file=sys.stderr)
    shutil.rmtree(folder)
    return found


def print_table(results: list[dict[str, Any]]) -> None:
    """Mean ± sd over all runs (of a single one its value), a row a subset."""
    print(f"{'modalities':<20} {'accuracy':>15} {'macro-F1':>15}")
    for subset in sorted(results[0]["subsets"], key=lambda name: (name.count("+"), name)):
        row = [f"{subset:<20}"]
        for metric in ("accuracy", "macro_f1"):
            values = [result["subsets"][subset][metric] for result in results]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            row.append(f"{statistics.mean(values):.3f}{spread}".rjust(15))
        print(" ".join(row))


if __name__ == "__main__":
    main()
