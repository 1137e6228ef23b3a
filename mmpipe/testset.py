"""The test split of a workspace: which samples it has, what they hold, and one hash of all that."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import files, paths, schema, tables
from mmpipe.errors import InvalidError

HASHES = tuple(f"{modality}_sha256" for modality in schema.MODALITIES)


@dataclass(frozen=True)
class HeldOut:
    """`rows`: those of `schema.SAMPLES`, sorted by id. `groups`: of each; near-duplicates share one."""

    rows: list[dict[str, Any]]
    groups: list[str]

    @property
    def sha256(self) -> str:
        """Of each sample's id, target and contents: another set, another hash."""
        facts = [[row["id"], row["target"], *(row[name] for name in HASHES)] for row in self.rows]
        return files.sha256(files.canonical_json(facts).encode())


def read(root: Path) -> HeldOut:
    """The test split of the workspace in `root`; it may be empty.

    Raises InvalidError `table-schema` where its tables do not fit one another.
    """
    splits = tables.read_rows(root / paths.SPLITS, schema.SPLIT)
    chosen = sorted((row for row in splits if row["split"] == "test"), key=lambda row: row["id"])
    wanted = {row["id"] for row in chosen}
    samples = tables.read_rows(root / paths.SAMPLES, schema.SAMPLES)
    found = {row["id"]: row for row in samples if row["id"] in wanted}
    if missing := sorted(wanted - found.keys()):
        what = f"has no row {missing[0]!r}, which the splits have"
        raise InvalidError("table-schema", what, where=str(root / paths.SAMPLES), fix="run `dvc repro`")
    rows = [{**found[row["id"]], "target": row["target"]} for row in chosen]
    return HeldOut(rows, [row["group"] for row in chosen])
