"""Types of the values of `params.yaml`: ranges, and rules that a range cannot say."""

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


DataPath = Annotated[str, AfterValidator(_raw_or_corpus)]
OneOfN = Annotated[float, AfterValidator(_one_of_n)]
