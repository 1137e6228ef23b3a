"""Manifests and files → samples, quarantine and the row accounting."""

from pathlib import Path

from mmpipe import ingest, manifest, paths, schema, snapshot, tables
from mmpipe.files import write_json
from mmpipe.inspection import Limits
from mmpipe.params import load
from mmpipe.stages.process import run

FOLDERS = (paths.CORPUS, paths.RAW)


def main() -> None:
    """Nothing is written of files that changed meanwhile; too many bad rows stop the run after the tables."""
    params = load(paths.PARAMS)
    before = snapshot.take(FOLDERS)
    data, columns = params.data, params.data.columns.model_dump()
    if data.target == "none":
        columns["target"] = None
    rows = [
        row
        for path in dict.fromkeys(map(Path, data.manifests))
        for row in manifest.read(path, columns, lists=data.target == "labels")
    ]
    limits = Limits(**params.ingest.model_dump(exclude={"max_bad_fraction", "timeout_s"}))
    target = ingest.Target(data.target, data.separator)
    found = ingest.ingest(rows, limits=limits, timeout_s=params.ingest.timeout_s, target=target)
    snapshot.check(before, snapshot.take(FOLDERS))
    tables.write_rows(paths.SAMPLES, found.samples, schema.SAMPLES)
    tables.write_rows(paths.QUARANTINE, found.quarantine, schema.QUARANTINE)
    write_json(paths.METRICS / "ingest.json", found.counts)
    print(f"ingest: {ingest.summary(found.counts)}")  # noqa: T201
    ingest.check(found.counts, max_bad_fraction=params.ingest.max_bad_fraction)


if __name__ == "__main__":
    run(main)
