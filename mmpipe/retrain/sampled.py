"""How the samples of a run differ from those of the commit that it started from."""

import shutil
from pathlib import Path
from typing import Any

from mmpipe import paths
from mmpipe.files import sha256_file


def keep(root: Path) -> Path | None:
    """Copy the sample table that DVC has checked out, out of git's sight; None where there is none."""
    if not (root / paths.SAMPLES).is_file():
        return None
    return Path(shutil.copyfile(root / paths.SAMPLES, root / paths.PRIVATE / "samples-before.parquet"))


def same(before: Path, root: Path) -> bool:
    """Whether the run's samples are those of the commit, byte for byte."""
    return sha256_file(before) == sha256_file(root / paths.SAMPLES)


def compare(before: str, after: str) -> dict[str, Any]:
    """The numbers of `mmpipe diff` about two sample tables. Raises VerificationError as `tables.read`."""
    from mmpipe import schema, tables
    from mmpipe.compare import samples

    return samples.compare(*(tables.read(Path(path), schema.SAMPLES) for path in (before, after)))
