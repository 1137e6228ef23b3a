"""The trained network and its metrics → the model bundle, with its card."""

import importlib
import json
from pathlib import Path
from typing import Any

from mmpipe import bundle, card, files, paths, testset
from mmpipe.params import load
from mmpipe.stages.process import run

LATENCY = "mmpipe.latency"
"""Named, not imported: it loads the network, and a card without it depends on none."""


def main() -> None:
    """Add what the evaluation found to what training left."""
    params = load(paths.PARAMS)
    trained = bundle.read(paths.TRAINED)
    test, train, rows, split = (_metrics(name) for name in ("evaluate", "train", "ingest", "split"))
    facts = card.Facts(
        name=paths.BUNDLE.name,
        corpus="one's own data" if params.corpus == "none" else params.corpus,
        config=json.loads(trained.files[bundle.CONFIG]),
        test=test,
        findings=json.loads(paths.FINDINGS.read_bytes()),
        train=train,
        rows=rows,
        split=split,
        loads=_loads(params.card.threads) if params.card.latency else [],
        size=sum(len(data) for name, data in trained.files.items() if name.endswith(".safetensors")),
    )
    metrics = {"test": test, "test_sha256": testset.read(Path()).sha256, "validation": train}
    contents = {**trained.files, bundle.METRICS: files.canonical_json(metrics).encode()}
    contents[bundle.CARD] = card.render(facts).encode()
    digest = bundle.write(paths.BUNDLE, contents)
    print(f"bundle: {paths.BUNDLE}, {sum(map(len, contents.values())):,} bytes, sha256 {digest[:12]}")  # noqa: T201


def _loads(threads: int) -> list[Any]:
    found: list[Any] = importlib.import_module(LATENCY).of_folder(paths.TRAINED, threads=threads)
    return found


def _metrics(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((paths.METRICS / f"{name}.json").read_bytes())
    return found


if __name__ == "__main__":
    run(main)
