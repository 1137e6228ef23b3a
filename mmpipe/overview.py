"""What a workspace's tables say about its rows, for people: those put aside, and counts of the good ones."""

from collections import Counter
from pathlib import Path
from typing import Any

from mmpipe import paths, schema, tables, targets, yaml_text
from mmpipe.errors import FIXES, NotFoundError


def put_aside(root: Path = Path()) -> list[dict[str, Any]]:
    """Rows that ingest quarantined and samples that extract could not compute, each with where and fix."""
    _check(root)
    rows = [
        {**row, "where": f"{row['source']}:{row['row']}", "fix": FIXES.get(row["code"], "")}
        for row in tables.read_rows(root / paths.QUARANTINE, schema.QUARANTINE)
    ]
    for modality in schema.MODALITIES:
        folder = root / paths.features(modality)
        for shard in tables.shards(folder) if folder.is_dir() else []:
            for row in tables.read(shard, columns=["id", "error"]).to_pylist():
                if row["error"] is not None:
                    rows.append(_failed(modality, row["id"], row["error"]))
    return rows


def counted(root: Path = Path()) -> dict[str, Any]:
    """The number of samples, and how many each split, modality and label has."""
    _check(root)
    samples = tables.read_rows(root / paths.SAMPLES, schema.SAMPLES)
    splits = root / paths.SPLITS
    split_rows = tables.read_rows(splits, schema.SPLIT) if splits.is_file() else []
    return {
        "rows": len(samples),
        "splits": _counts(row["split"] for row in split_rows),
        "modalities": {m: sum(row[f"{m}_sha256"] is not None for row in samples) for m in schema.MODALITIES},
        "targets": _targets(root, [row["target"] for row in samples]),
    }


def _check(root: Path) -> None:
    if not (root / paths.PIPELINE).is_file():
        raise NotFoundError("workspace", "there is no dvc.yaml", where=str(root.resolve()))


def _failed(modality: str, name: str, error: str) -> dict[str, Any]:
    code, _, message = error.partition(" ")
    known = code in FIXES
    return {
        "id": name,
        "where": f"extract@{modality}",
        "modality": modality,
        "code": code if known else "worker-died",
        "message": message if known else error,
        "fix": FIXES[code] if known else FIXES["worker-died"],
    }


def _targets(root: Path, cells: list[str | None]) -> dict[str, int]:
    """How often each label comes; of numbers, each tenth of them."""
    kind = _kind(root)
    strata = targets.strata(kind, cells)
    return _counts(name for one in strata for name in ([one] if isinstance(one, str) else one))


def _kind(root: Path) -> str:
    """`data.target` of the workspace; without a params.yaml, labels."""
    if not (root / paths.PARAMS).is_file():
        return "label"
    data = yaml_text.read(root / paths.PARAMS).plain().get("data") or {}
    return str(data.get("target", "label"))


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))
