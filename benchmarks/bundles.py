"""Bundles to measure with: the tests' tiny one, and another one of the same weights."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def tiny_model(root: Path) -> Path:
    """The untrained one that the tests use."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import tiny_bundle

    tiny_bundle.write(root)
    return root / "models/fusion"


def another_bundle(model: Path, place: Path) -> None:
    """The same weights with other metrics: another hash."""
    from mmpipe.model.checkpoint import load_bundle, save_bundle

    bundle = load_bundle(model)
    config = {key: value for key, value in bundle.config.items() if key not in ("format", "architecture")}
    architecture, tokenizer = bundle.config["architecture"], bundle.tokenizer
    save_bundle(
        place,
        bundle.model,
        config=config,
        architecture=architecture,
        metrics={"another": 1},
        tokenizer=tokenizer,
    )
