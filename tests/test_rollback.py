"""The way back: through the history and never forward, or to any published version."""

import four_versions
import gto.api
import pytest
from four_versions import FORCED

from mmpipe.errors import NotFoundError, UsageError, VerificationError
from mmpipe.registry.promote import Terms, promote, rollback


@pytest.fixture
def repository(four, tmp_path):
    return four_versions.copy(four, tmp_path)


def test_rollback_goes_back_through_the_history_and_never_forward(repository):
    for version in ("v1.1.0", "v1.3.0", "v1.0.0", "v1.2.0"):
        promote(repository.root, f"fusion@{version}", FORCED)
    found = []
    for _ in range(3):
        moved = rollback(repository.root, terms=Terms(why="worse"))
        found.append((moved.before, moved.version, moved.action))
    assert found == [
        ("v1.2.0", "v1.0.0", "rollback"),
        ("v1.0.0", "v1.3.0", "rollback"),
        ("v1.3.0", "v1.1.0", "rollback"),
    ]
    with pytest.raises(NotFoundError, match=r"tag-missing fusion#prod nothing held it before v1\.1\.0.*--to"):
        rollback(repository.root)
    assert repository.read().holder("fusion", "prod").action == "rollback"


def test_rollback_to_any_published_version(repository):
    promote(repository.root, "fusion@v1.2.0", FORCED)
    promote(repository.root, "fusion@v1.3.0", FORCED)
    assert rollback(repository.root, "v1.0.0").version == "v1.0.0"
    assert rollback(repository.root).version == "v1.2.0"  # not v1.3.0: that was rolled back from
    assert rollback(repository.root, "fusion@v1.3.0").tag == "fusion#prod#5"
    again = rollback(repository.root, "v1.3.0")
    assert (again.changed, again.tag) == (False, "fusion#prod#5")
    with pytest.raises(NotFoundError, match=r"fusion@v1\.4\.0 is not there"):
        rollback(repository.root, "v1.4.0")
    with pytest.raises(UsageError, match=r"'1\.2' is no version.*write v1\.2\.0"):
        rollback(repository.root, "1.2")


def test_nothing_to_roll_back(repository):
    with pytest.raises(NotFoundError, match=r"fusion#prod nothing holds it.*mmpipe promote --stage prod"):
        rollback(repository.root)
    with pytest.raises(UsageError, match="'a b' cannot be a stage"):
        rollback(repository.root, terms=Terms(stage="a b"))


def test_gto_and_dvc_see_the_version_that_was_gone_back_to(repository):
    root = str(repository.root)
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        promote(repository.root, f"fusion@{version}", FORCED)
    rollback(repository.root, "v1.0.0")
    assert gto.api.show(root)["fusion"]["stage"]["prod"] == "v1.0.0"
    from dvc.repo import Repo

    assert Repo(root, uninitialized=True).artifacts.get_rev("fusion", stage="prod") == (
        repository.read().resolve("fusion@v1.0.0").commit
    )


def test_a_moved_tag_is_not_promoted_and_can_be_rolled_back_from(repository):
    promote(repository.root, "fusion@v1.0.0")
    promote(repository.root, "fusion@v1.1.0")
    local = Terms(push=False)
    repository.git("tag", "--force", "-a", "-m", "x", "fusion@v1.1.0", "HEAD")
    with pytest.raises(VerificationError, match=r"tag-moved fusion@v1\.1\.0 .* one of the two was moved"):
        promote(repository.root, "fusion@v1.1.0", local)
    with pytest.raises(VerificationError, match=r"fusion@v1\.1\.0 is another tag at origin than here"):
        rollback(repository.root)
    assert rollback(repository.root, terms=local).version == "v1.0.0"


def test_a_version_that_was_withdrawn_is_not_gone_back_to(repository):
    promote(repository.root, "fusion@v1.0.0")
    promote(repository.root, "fusion@v1.1.0")
    gto.api.deregister(str(repository.root), "fusion", version="v1.0.0")
    with pytest.raises(NotFoundError, match=r"fusion@v1\.0\.0 was withdrawn"):
        rollback(repository.root)
