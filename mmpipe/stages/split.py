"""Samples → train, val and test."""

from typing import Any

import pyarrow as pa

from mmpipe import groups, paths, schema, split, tables, targets
from mmpipe.files import write_json
from mmpipe.params import Split, load
from mmpipe.stages.process import run
from mmpipe.transcripts.form import normalise


def main() -> None:
    """Group, deal, check for leaks, write."""
    params = load(paths.PARAMS)
    on, kind = params.split, params.data.target
    samples = tables.read(paths.SAMPLES, schema.SAMPLES).to_pydict()
    ids, strata = samples["id"], targets.strata(kind, samples["target"])
    found = _groups(samples, on, kind)
    splits = _splits(samples | {"strata": strata}, found.names, on)
    for modality in ("image", "audio"):
        split.check_leaks(
            ids, splits, samples[f"{modality}_sha256"], what=f"samples with one {modality} file"
        )
    table = pa.table([ids, splits, found.names, samples["target"]], schema=schema.SPLIT)
    tables.write(paths.SPLITS, table)
    counts = split.counts(strata, splits, found.names)
    write_json(paths.METRICS / "split.json", counts | {"near_duplicate_pairs": found.near_duplicate_pairs})
    sizes = " + ".join(f"{number} {name}" for name, number in counts["samples"].items())
    print(f"split: {len(ids)} samples = {sizes}, in {counts['groups']} groups")  # noqa: T201


def _groups(samples: dict[str, list[Any]], on: Split, kind: str) -> groups.Groups:
    shared = [samples[name] for name in ("group", "image_sha256", "audio_sha256")]
    if on.group_identical_text:
        shared.append([text and groups.normalise_text(text) for text in samples["text"]])
    if on.group_identical_target and kind == "text":
        shared.append([normalise(text) for text in samples["target"]])
    return groups.find(
        samples["id"],
        shared=shared,
        hashes=samples["image_phash"],
        near_duplicate_bits=on.near_duplicate_bits,
    )


def _splits(samples: dict[str, list[Any]], names: list[str], on: Split) -> list[str]:
    ids, strata, declared = samples["id"], samples["strata"], samples["split"]
    if any(declared):
        return split.keep_declared(ids, strata, names, declared, val_fraction=on.val_fraction, seed=on.seed)
    return split.assign(
        ids,
        strata,
        names,
        test_fraction=on.test_fraction,
        val_fraction=on.val_fraction,
        fold=on.fold,
        seed=on.seed,
    )


if __name__ == "__main__":
    run(main)
