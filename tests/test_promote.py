"""Stages: who gets them, what the gate has to say in it, and what others see."""

import four_versions
import gto.api
import publisher
import pytest
from four_versions import FORCED
from test_tagged import Repository

from mmpipe.errors import InvalidError, MmpipeError, UsageError
from mmpipe.registry import tagged
from mmpipe.registry.promote import Terms, promote, rollback
from mmpipe.registry.publish import Wishes, publish


@pytest.fixture
def repository(four, tmp_path):
    return four_versions.copy(four, tmp_path)


def stage_tags(repository):
    return [tag for tag in repository.git("ls-remote", "--tags", "--refs", "origin").split() if "#" in tag]


def test_the_first_champion_needs_no_gate_the_next_one_does(repository):
    first = promote(repository.root, "fusion@v1.0.0", Terms(why="the first"))
    assert (first.tag, first.before, first.changed) == ("fusion#prod#1", None, True)
    second = promote(repository.root, "fusion@v1.1.0")
    assert (second.tag, second.before) == ("fusion#prod#2", "v1.0.0")
    assert repository.read().resolve("fusion#prod").version == "v1.1.0"
    assert stage_tags(repository) == ["refs/tags/fusion#prod#1", "refs/tags/fusion#prod#2"]


def test_the_stages_tag_says_what_was_done(repository):
    promote(repository.root, "fusion@v1.0.0", Terms(why='"so"\nsaid the team'))
    assert repository.git("tag", "--list", "--format=%(contents)", "fusion#prod#1").splitlines() == [
        "fusion v1.0.0 takes prod",
        "",
        "Version: v1.0.0",
        "Bundle-SHA256: hash-of-v1.0.0",
        "Action: promote",
        'Why: "\\"so\\"\\nsaid the team"',
        'Gate: {"champion": null, "reasons": [], "verdict": "none"}',
        "",
    ]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v1.2.0", "the gate did not let it pass when it was published: because of refuse"),
        ("v1.3.0", "the gate was not asked when it was published: because of none"),
    ],
)
def test_what_the_gate_did_not_let_pass_is_refused_unless_forced(repository, version, words):
    promote(repository.root, "fusion@v1.0.0")
    with pytest.raises(
        InvalidError, match=rf"gate-refused fusion@{version} {words}.*--force and --why"
    ) as caught:
        promote(repository.root, f"fusion@{version}")
    assert caught.value.exit_status == 5
    with pytest.raises(UsageError, match="--force needs --why"):
        promote(repository.root, f"fusion@{version}", Terms(force=True))
    assert repository.read().resolve("fusion#prod").version == "v1.0.0"
    assert promote(repository.root, f"fusion@{version}", FORCED).changed
    assert repository.read().holder("fusion", "prod").why == "a test"


def test_a_verdict_on_another_champion_does_not_count(repository):
    promote(repository.root, "fusion@v1.0.0")
    promote(repository.root, "fusion@v1.3.0", FORCED)
    words = r"was judged against fusion@v1\.0\.0, and fusion@v1\.3\.0 holds prod now"
    with pytest.raises(InvalidError, match=f"gate-refused .*{words}"):
        promote(repository.root, "fusion@v1.1.0")


def test_promoting_again_changes_nothing(repository):
    promote(repository.root, "fusion@v1.0.0")
    again = promote(repository.root, "fusion@v1.0.0")
    assert (again.tag, again.changed, again.before) == ("fusion#prod#1", False, "v1.0.0")
    assert len(stage_tags(repository)) == 1


def test_a_stage_can_be_promoted_to_another_and_counters_go_on(repository):
    promote(repository.root, "fusion@latest", Terms(stage="staging"))
    moved = promote(repository.root, "fusion#staging")
    assert (moved.tag, moved.version) == ("fusion#prod#2", "v1.3.0")
    version = repository.read().resolve("fusion#prod")
    assert repository.read().stages(version) == ["prod", "staging"]


def test_what_others_promoted_counts(repository, tmp_path):
    other = Repository.__new__(Repository)
    other.root = tmp_path / "other"
    repository.git("clone", "--quiet", "../origin.git", str(other.root))
    publisher.repository(other.root)
    promote(other.root, "fusion@v1.0.0")
    assert repository.read().holder("fusion", "prod") is None
    assert promote(repository.root, "fusion@v1.1.0").tag == "fusion#prod#2"
    assert tagged.read(repository.root.parent / "origin.git").resolve("fusion#prod").version == "v1.1.0"


def test_a_push_that_fails_leaves_the_tag_and_can_be_repeated(repository):
    hook = repository.root.parent / "origin.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(
        MmpipeError, match=r"(?s)remote-failed .*fusion#prod#1 is here, not at origin.*git push"
    ):
        promote(repository.root, "fusion@v1.0.0")
    assert stage_tags(repository) == []
    hook.unlink()
    assert promote(repository.root, "fusion@v1.0.0").changed is False
    assert stage_tags(repository) == ["refs/tags/fusion#prod#1"]


def test_a_clock_that_went_back_is_told(repository):
    words = [
        "git",
        "tag",
        "-a",
        "-m",
        "x\n\nVersion: v1.0.0\nAction: promote",
        "fusion#prod#1",
        "fusion@v1.0.0^{}",
    ]
    publisher.run("env", "GIT_COMMITTER_DATE=2099-01-01T00:00:00Z", *words, cwd=repository.root)
    moved = promote(repository.root, "fusion@v1.1.0", Terms(push=False))
    assert (moved.late, moved.tag) == (True, "fusion#prod#2")
    assert repository.read().resolve("fusion#prod").version == "v1.1.0"


def test_three_versions_are_published_promoted_and_rolled_back(tmp_path):
    """The whole way, with a real pipeline, as one team uses it and another repository sees it."""
    site = publisher.make(tmp_path / "site")

    def judge(champion, _challenger):
        return {"verdict": "promote", "reasons": [f"better than {champion.tag}"]}

    for weights, change in (("1", {}), ("2", {"params": {"lr": 2}}), ("3", {"params": {"lr": 3}})):
        site.train(weights, **change)
        publish(site.root, Wishes(), judge=judge)
        promote(site.root, "fusion@latest", Terms(why=f"weights {weights}"))
    assert rollback(site.root, terms=Terms(why="too slow")).version == "v1.1.0"
    assert rollback(site.root, "v1.0.0").version == "v1.0.0"
    there = tagged.read(f"file://{site.origin}")
    assert [v.version for v in there.versions] == ["v1.0.0", "v1.1.0", "v1.2.0"]
    assert [(a.version, a.action, a.why) for a in there.log("fusion", "prod")] == [
        ("v1.0.0", "promote", "weights 1"),
        ("v1.1.0", "promote", "weights 2"),
        ("v1.2.0", "promote", "weights 3"),
        ("v1.1.0", "rollback", "too slow"),
        ("v1.0.0", "rollback", ""),
    ]
    assert there.versions[2].gate == {
        "verdict": "promote",
        "reasons": ["better than fusion@v1.1.0"],
        "champion": "fusion@v1.1.0",
    }
    assert gto.api.show(str(site.root))["fusion"] == {
        "version": "v1.2.0",
        "stage": {"prod": "v1.0.0"},
        "registered": True,
        "active": True,
    }
