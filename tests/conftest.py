"""What every test may count on: no colours, no analytics, and the repository's own root."""

import os
from pathlib import Path

import pytest

os.environ.update(NO_COLOR="1", DVC_NO_ANALYTICS="1", TERM="dumb")
os.environ.pop("MMPIPE_DEBUG", None)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def retrainable(tmp_path_factory):
    """A small workspace, reproduced and committed; copy it (`retrained.copy`) and leave it as it is."""
    import retrained

    return retrained.make(tmp_path_factory.mktemp("retrainable") / "w")


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    """Four published versions and their origin; copy them (`four_versions.copy`), change nothing."""
    import four_versions

    return four_versions.make(tmp_path_factory.mktemp("four"))
