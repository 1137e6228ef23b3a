"""Commands that promote, roll back and list: what they tell people and programs."""

import json

import four_versions
import publisher
import pytest
from four_versions import call


@pytest.fixture
def repository(four, tmp_path):
    return four_versions.copy(four, tmp_path)


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
