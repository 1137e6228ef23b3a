"""What every recipe reaches with every fusion: trained over seeds, a row a training, and docs/results.md.

    python benchmarks/results.py --into DIR                       # all recipes, all variants, seeds 0, 1, 2
    python benchmarks/results.py --into DIR --recipes stamps --variants concat gated --seeds 0 1 --jobs 2
    python benchmarks/results.py --into DIR --write               # the rows of DIR into docs/, and the page

Each recipe gets a workspace, DIR/RECIPE, by `mmpipe init --recipe` and `dvc repro` up to the features, and
each (recipe, variant, seed) a training that borrows them: `borrowing`. Seed s draws the first weights and
everything random, and tests on fold s of five, where the data have no split of their own. A finished training
is a row of DIR/rows.jsonl; killed, the same command goes on in the training where it was.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import borrowing
import results_page
from ruamel.yaml import YAML

from mmpipe import files, init, params, sense, trees
from mmpipe.tasks.task import load as load_task

REPOSITORY = Path(__file__).resolve().parents[1]
FUSIONS = ("concat", "gated", "attention", "lowrank", "weighted")
OBJECTIVES = {
    "model.fusion": "concat",
    "train.auxiliary": 0.5,
    "objective.contrastive": 0.1,
    "objective.weights": "uncertainty",
}
WHOLE = {"model.fusion": "concat", "train.modality_dropout": 0.0}
"""Trained on samples as they are, none of whose modalities is hidden."""
VARIANTS: dict[str, dict[str, Any]] = {
    **{fusion: {"model.fusion": fusion} for fusion in FUSIONS},
    "objective": OBJECTIVES,
    "whole": WHOLE,
    "stacking": {"model.fusion": "stacking"},
}
"""Name → what differs from the recipe. `objective`: all losses at once, their weights learned."""
FEATURES = [f"extract@{modality}" for modality in ("audio", "image", "text")]


class Job(NamedTuple):
    """One training. `changes`: of the recipe's parameters, {dotted key: value}."""

    recipe: str
    variant: str
    seed: int
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        """For folders and people."""
        return f"{self.recipe}-{self.variant.replace(' ', '-')}-{self.seed}"


def jobs(recipes: list[str], seeds: list[int], variants: list[str] | None = None) -> list[Job]:
    """Every training that makes sense, all seeds of a recipe's variant one after the other."""
    found = []
    for recipe in recipes:
        written = YAML(typ="safe").load(init.template(f"recipes/{recipe}.yaml"))
        for variant, changes in _variants(written).items():
            if (variants is None or variant in variants) and _makes_sense(written, changes):
                found += [Job(recipe, variant, seed, changes | _of_seed(written, seed)) for seed in seeds]
    return found


def sensible() -> dict[str, list[str]]:
    """{recipe: variants} of everything that there is to train."""
    found: dict[str, list[str]] = {}
    for job in jobs(init.recipes(), [0]):
        found.setdefault(job.recipe, []).append(job.variant)
    return found


def _variants(written: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the fusion, and each modality alone; of a single one its own model, of speech each unit."""
    chosen = params.Params.model_validate(written)
    if chosen.model.task == "transcribe":
        return {"characters": {}, "pieces": {"model.output": {"units": "bpe"}}}
    encoders = chosen.model.encoders
    if len(encoders) == 1:
        return {encoders[0]: {}}
    alone = {f"{m} alone": {f"model.{other}": "none" for other in encoders if other != m} for m in encoders}
    single = {"model.fusion": "concat"}
    found: dict[str, dict[str, Any]] = {**{name: of | single for name, of in alone.items()}, **VARIANTS}
    if load_task(chosen.model.task).writes:  # what modalities say by themselves has no loss
        found["objective"] = {
            key: value for key, value in found["objective"].items() if "auxiliary" not in key
        }
    if not chosen.train.modality_dropout or not load_task(chosen.model.task).fuses:
        del found["whole"]  # which is the recipe already
    return found


def _of_seed(written: dict[str, Any], seed: int) -> dict[str, Any]:
    own = (written.get("data", {}).get("columns") or {}).get("split")
    return {"train.seed": seed} | ({} if own else {"split.fold": seed % 5})


def _makes_sense(written: dict[str, Any], changes: dict[str, Any]) -> bool:
    """Whether mmpipe itself would take these parameters."""
    tree = {section: dict(of) if isinstance(of, dict) else of for section, of in written.items()}
    for key, value in changes.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = value
    return not [*sense.contradictions(params.Params.model_validate(tree).model_dump(), tree)]


class Rows:
    """The rows of finished trainings, in a file that is always whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.rows = read(path)

    def has(self, job: Job, recipe: str) -> bool:
        """Whether the job is done with the very parameters of now; `recipe`: their digest."""
        wanted = (job.recipe, job.variant, job.seed, recipe)
        return wanted in {(row["recipe"], row["variant"], row["seed"], row["digest"]) for row in self.rows}

    def add(self, row: dict[str, Any]) -> None:
        """In the place of an older one of the same job."""
        with self.lock:
            self.rows = merged(self.rows, [row])
            files.write_bytes(self.path, lines(self.rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by job, the new ones in the place of the old ones."""
    return list({(row["recipe"], row["variant"], row["seed"]): row for row in [*old, *new]}.values())


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()


def main() -> None:
    """Parse, run, render."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, help="a folder for workspaces and rows")
    parser.add_argument("--recipes", nargs="+", default=init.recipes(), choices=init.recipes())
    parser.add_argument("--variants", nargs="+", help=f"{', '.join(VARIANTS)}, 'text alone', …; else all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side, one thread each")
    parser.add_argument("--write", action="store_true", help="run nothing: rows and page into docs/")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    rows = options.into.resolve() / "rows.jsonl"
    if options.write:
        write(read(rows))
        return
    wanted = jobs(options.recipes, options.seeds, options.variants)
    if not wanted:
        sys.exit("no such training makes sense: see --help for the variants")
    with (rows.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another of these commands is at work in {options.into}")
        run(rows.parent, wanted, Rows(rows), options.jobs)


def write(rows: list[dict[str, Any]]) -> None:
    """Keep the rows beside the page, so that the page can be held to them."""
    kept = REPOSITORY / "docs/results.jsonl"
    rows = sorted(merged(read(kept), rows), key=lambda row: (row["recipe"], row["variant"], row["seed"]))
    files.write_bytes(kept, lines(rows))
    files.write_bytes(REPOSITORY / "docs/results.md", results_page.render(rows, sensible()).encode())


def run(into: Path, wanted: list[Job], rows: Rows, side_by_side: int) -> None:
    """All jobs that have no row; a failure ends it when those at work are done."""
    for recipe in dict.fromkeys(job.recipe for job in wanted):
        prepare(into / recipe, recipe)
        mine = [job for job in wanted if job.recipe == recipe]
        with ThreadPoolExecutor(side_by_side) as pool:
            futures = [pool.submit(train, into, job, rows) for job in mine]
            try:
                for future in futures:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def prepare(workspace: Path, recipe: str, changes: dict[str, Any] | None = None) -> None:
    """The recipe's workspace with its features; made before, only what changed is made again."""
    command = [sys.executable, "-c", "from mmpipe.cli import run; run()"]
    if not (workspace / "dvc.yaml").exists():
        subprocess.run([*command, "init", str(workspace), "--recipe", recipe], check=True)
        tree = YAML(typ="rt").load(workspace / "params.yaml")
        for key, value in (changes or {}).items():
            section, name = key.split(".")
            tree.setdefault(section, {})[name] = value
        YAML(typ="rt").dump(tree, workspace / "params.yaml")
    subprocess.run([*command, "unlock"], cwd=workspace, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", *FEATURES], cwd=workspace, check=True)


def train(into: Path, job: Job, rows: Rows) -> None:
    """One training → one row."""
    folder = into / "trainings" / job.name
    resumed = folder.exists()
    changes = [f"{key}={json.dumps(value)}" for key, value in job.changes.items()]
    borrowing.furnish(folder, into / job.recipe, changes)
    chosen = params.load(folder / "params.yaml")
    digest = digest_of(chosen)
    if not rows.has(job, digest):
        trained = borrowing.train(folder)
        row = row_of(job, chosen, trained, digest=digest) | {"code": code(into / job.recipe)}
        rows.add(row | ({"train_cpu_s": None} if resumed else {}))  # what the killed part took is not known
        print(f"{time.strftime('%H:%M:%S')} {job.name}: {row['figures']}", file=sys.stderr, flush=True)
    shutil.rmtree(folder)


def digest_of(chosen: params.Params) -> str:
    """Of what differs from the defaults, so that a new parameter makes no row an old one."""
    usual = trees.flat(params.Params().model_dump())
    said = {key: value for key, value in trees.flat(chosen.model_dump()).items() if usual[key] != value}
    return files.sha256(files.canonical_json(said).encode())[:12]


def row_of(job: Job, chosen: params.Params, trained: borrowing.Trained, *, digest: str) -> dict[str, Any]:
    """What the page and its readers need of one training."""
    found, names = trained.found, sense.METRICS[chosen.model.task]
    level = {name: found[name] for name in names if name in found}
    parts = {
        part: {name: plain(of) for name, of in found[part].items()}
        for part in ("subsets", "directions", "decoding")
        if part in found
    }
    return {
        "recipe": job.recipe,
        "variant": job.variant,
        "seed": job.seed,
        "digest": digest,
        "task": chosen.model.task,
        "figures": level,
        **parts,
        "samples": found["samples"],
        "parameters": trained.learned["parameters"],
        "multiply_adds": trained.learned["multiply_adds"],
        "train_cpu_s": round(trained.train_cpu_s, 1),
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
    }


def plain(of: dict[str, Any]) -> dict[str, float]:
    """Its numbers, without intervals."""
    return {name: value for name, value in of.items() if isinstance(value, int | float)}


def code(workspace: Path) -> str:
    """What was measured: the fingerprint of the code behind `train`, its libraries and defaults."""
    return files.sha256_file(workspace / "data/code/train.json")[:12]


if __name__ == "__main__":
    main()
