"""Two people promote at once: the slower one is told so, and nothing of theirs is left."""

import published
import pytest

from mmpipe.errors import MmpipeError
from mmpipe.registry import tagged
from mmpipe.registry.promote import Terms, promote


def test_the_slower_of_two_is_told_and_its_tag_goes(tmp_path):
    first = published.repository(tmp_path / "first")
    for number in (1, 2):
        published.publish(first, f"v1.{number}.0", number, push=False)
    published.run(tmp_path, "git", "clone", "-q", "--bare", "first", "origin.git")
    published.run(first, "git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    published.run(tmp_path, "git", "clone", "-q", "origin.git", "second")
    second = tmp_path / "second"
    for key, value in (("user.name", "Bob"), ("user.email", "bob@example.org")):
        published.run(second, "git", "config", key, value)
    promote(first, "fusion@v1.1.0", Terms(push=False))
    hook = (
        second / ".git/hooks/pre-push"
    )  # between the fetch and the push of the second, the first's tag arrives
    hook.write_text(f"#!/bin/sh\nexec git -C '{first}' push -q origin 'refs/tags/fusion#prod#1'\n")
    hook.chmod(0o755)
    with pytest.raises(MmpipeError, match="somebody else"):
        promote(second, "fusion@v1.2.0", Terms())
    assert published.run(second, "git", "tag", "--list", "*#*") == ""
    hook.unlink()
    assert promote(second, "fusion@v1.2.0", Terms(force=True, why="mine is better")).before == "v1.1.0"
    assert tagged.read(str(tmp_path / "origin.git")).resolve("fusion#prod").version == "v1.2.0"
