"""Stages: who gets them, the way back, the log of it, and the commands that tell it."""

import contextlib
import json
import shutil

import gto.api
import publisher
import pytest
from test_tagged import Repository
from typer.testing import CliRunner

from mmpipe.cli import app
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, UsageError, VerificationError
from mmpipe.registry import tagged
from mmpipe.registry.promote import Terms, promote, rollback
from mmpipe.registry.publish import Wishes, publish

FORCED = Terms(force=True, why="a test")


def gate(verdict, champion=None):
    return {"verdict": verdict, "reasons": [f"because of {verdict}"], "champion": champion}


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four versions; the gate let v1.1.0 pass, refused v1.2.0 and was not asked about v1.3.0. An origin."""
    made = Repository(tmp_path_factory.mktemp("four") / "w")
    made.git("init", "--quiet", "--bare", "--initial-branch", "main", "../origin.git")
    made.git("remote", "add", "origin", "../origin.git")
    made.publish("v1.0.0")
    for version, verdict in (("v1.1.0", "promote"), ("v1.2.0", "refuse"), ("v1.3.0", "none")):
        made.publish(version, Gate=gate(verdict, "fusion@v1.0.0"))
    made.git("push", "--quiet", "--tags", "origin", "main")
    return made


@pytest.fixture
def repository(four, tmp_path):
    shutil.copytree(four.root.parent, tmp_path / "site")
    copied = Repository.__new__(Repository)
    copied.root = tmp_path / "site/w"
    return copied


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


def test_a_version_that_was_withdrawn_is_not_gone_back_to(repository):
    promote(repository.root, "fusion@v1.0.0")
    promote(repository.root, "fusion@v1.1.0")
    gto.api.deregister(str(repository.root), "fusion", version="v1.0.0")
    with pytest.raises(NotFoundError, match=r"fusion@v1\.0\.0 was withdrawn"):
        rollback(repository.root)


def call(root, *arguments):
    with contextlib.chdir(root):
        return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_commands_tell_people(repository):
    assert call(repository.root, "promote", "fusion@v1.0.0").stdout == (
        "fusion@v1.0.0 takes prod (fusion#prod#1); before: none\n"
    )
    assert call(repository.root, "promote", "fusion@v1.1.0", "--why", "bel\x1b[31m").exit_code == 0
    assert call(repository.root, "promote", "fusion@v1.1.0").stdout == (
        "fusion@v1.1.0 holds prod (fusion#prod#2) already: nothing to do\n"
    )
    assert call(repository.root, "rollback", "--why", "slow").stdout == (
        "fusion@v1.0.0 is back in prod (fusion#prod#3); before: v1.1.0\n"
    )
    told = call(repository.root, "history").stdout.splitlines()
    assert len(told) == 7 and told[0].endswith(
        "Ada <ada@example.com>  fusion@v1.0.0  rolled back to prod  accuracy 0.600 on 10 test samples — slow"
    )
    assert r"promoted to prod  accuracy 0.600 on 10 test samples — bel\x1b[31m" in told[1]
    assert call(repository.root, "models").stdout.splitlines() == [
        "fusion@v1.3.0  accuracy 0.600 on 10 test samples  gate: none",
        "fusion@v1.2.0  accuracy 0.600 on 10 test samples  gate: refuse",
        "fusion@v1.1.0  accuracy 0.600 on 10 test samples  gate: promote",
        "fusion@v1.0.0  accuracy 0.600 on 10 test samples  #prod  gate: none",
    ]
    refused = call(repository.root, "promote", "fusion@v1.2.0")
    assert (refused.exit_code, refused.stdout) == (5, "") and refused.stderr.startswith("gate-refused")
    assert call(repository.root, "promote", "fusion").exit_code == 2
    assert call(repository.root, "rollback", "--to", "v9.0.0").exit_code == 3


def test_commands_tell_programs(repository):
    moved = json.loads(call(repository.root, "promote", "fusion@v1.0.0", "--json").stdout)
    assert (moved["tag"], moved["version"], moved["changed"]) == ("fusion#prod#1", "v1.0.0", True)
    shown = json.loads(call(repository.root, "models", "--json", "--from", "../origin.git").stdout)
    assert [(v["version"], v["stages"]) for v in shown["versions"]][-1] == ("v1.0.0", ["prod"])
    told = json.loads(call(repository.root, "history", "--json", "--stage", "prod").stdout)
    assert [(e["n"], e["what"], e["who"]) for e in told["events"]] == [(1, "promote", "Ada")]
    assert told["problems"] == {}


def test_commands_name_moved_tags_after_the_list(repository):
    repository.git("tag", "fusion@v1.4.0")
    for command in ("models", "history"):
        done = call(repository.root, command)
        assert done.exit_code == 6 and done.stderr.startswith("tag-moved fusion@v1.4.0 is no annotated tag")
        assert "fusion@v1.3.0" in done.stdout
    assert "fusion@v1.4.0" in json.loads(call(repository.root, "models", "--json").stdout)["problems"]


def test_nothing_published_is_said(tmp_path):
    publisher.repository(tmp_path)
    assert (
        call(tmp_path, "models").stdout == call(tmp_path, "history").stdout == "nothing was published yet\n"
    )


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
