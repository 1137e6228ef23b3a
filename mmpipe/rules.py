"""Types of the values of `params.yaml`: ranges, and rules that a range cannot say."""

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from mmpipe import paths

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
MAX_FOLDS = 20


def _raw_or_corpus(name: str) -> str:
    """A manifest elsewhere would change without DVC seeing it."""
    path, folders = PurePosixPath(name), [folder.as_posix() for folder in (paths.RAW, paths.CORPUS)]
    if ".." in path.parts or not any(path.is_relative_to(folder) for folder in folders):
        raise ValueError(f"must lie below {' or '.join(folders)}, with no '..' in its path, not {name!r}")
    return name


def _one_of_n(value: float) -> float:
    """1/n, so that the folds of a cross-validation are of one size and each sample is tested once."""
    allowed = sorted((1 / n for n in range(2, MAX_FOLDS + 1)), key=lambda share: abs(share - value))
    if abs(allowed[0] - value) > 1e-6:
        near = " and ".join(f"{share:.6g}" for share in sorted(allowed[:2]))
        raise ValueError(f"must be 1/n with n from 2 to {MAX_FOLDS}; the nearest are {near}, not {value:g}")
    return value


def _source(name: str) -> str:
    """A branch of the hub moves, and so does what a link leads to: neither says which weights they are."""
    kind, colon, rest = name.rpartition(":")
    path = PurePosixPath(name)
    if not colon and not path.is_absolute() and ".." not in path.parts and path.parts:
        return name
    if kind == "package" and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", rest):
        return name
    if kind == "hub" and re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", rest):
        return name
    allowed = "a folder of the workspace, package:NAME or hub:OWNER/NAME@COMMIT with all 40 digits"
    where = " (the model page shows it under Files, History)" if kind == "hub" else ""
    raise ValueError(f"must be {allowed}{where}, not {name!r}")


WeightsSource = Annotated[str, AfterValidator(_source)]
DataPath = Annotated[str, AfterValidator(_raw_or_corpus)]
OneOfN = Annotated[float, AfterValidator(_one_of_n)]
