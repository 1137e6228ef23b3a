"""One who only uses published models: a bare clone, no workspace, no params.yaml, no Prefect.

Prefect is installed where the tests run, so it is made impossible to import, in every process they start.
"""

import json
import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import published
import pytest
import tiny_bundle
from packaging.requirements import Requirement
from workspace import REPOSITORY, Workspace

from mmpipe import bundle, paths
from mmpipe.predict import Prediction, load

REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prefect", "prefect_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""
LOAD = """
import json, sys
from mmpipe.predict import load

model = load(sys.argv[1])
answer = model.predict(text=sys.argv[2])
assert not any(name.partition(".")[0] == "prefect" for name in sys.modules)
print(json.dumps({"label": answer.label, "probabilities": answer.probabilities, "model": answer.model}))
"""
WORDS = "a low one"


@dataclass(frozen=True)
class Team:
    """`answers`: what the publisher's own bundle of v1.N.0 answers, by N."""

    origin: Path
    answers: dict[int, Prediction]


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """Three versions of a model, two of which held `prod`; of the workspace only origin and storage stay."""
    top, answers = tmp_path_factory.mktemp("team"), {}
    tiny_bundle.write(top / "trained")
    files = bundle.read(top / "trained" / paths.BUNDLE).files
    config = json.loads(files[bundle.CONFIG])
    work = published.repository(top / "work", storage=str(top / "store"))
    for number in (1, 2, 3):
        other = {**files, bundle.CONFIG: json.dumps({**config, "temperature": float(number)}).encode()}
        published.publish(work, f"v1.{number}.0", number, files=other)
        answers[number] = load(work / paths.BUNDLE, device="cpu").predict(text=WORDS)
    for n, version in ((1, "v1.1.0"), (2, "v1.2.0")):
        published.assign(work, "prod", n, version)
    published.run(top, "git", "clone", "-q", "--bare", "work", "origin.git")
    shutil.rmtree(work)
    return Team(top / "origin.git", answers)


@pytest.fixture(scope="module")
def away(team, tmp_path_factory):
    """A bare clone of the origin, and an environment without Prefect."""
    top = tmp_path_factory.mktemp("away")
    (top / "site").mkdir()
    (top / "site/sitecustomize.py").write_text(REFUSE)
    published.run(top, "git", "clone", "-q", "--bare", str(team.origin), "clone.git")
    published.run(top / "clone.git", "git", "config", "user.name", "Bea")
    published.run(top / "clone.git", "git", "config", "user.email", "bea@example.org")
    return Workspace(top / "clone.git", {"PYTHONPATH": f"{top / 'site'}{os.pathsep}{REPOSITORY}"})


def told(place, *command):
    return json.loads(place.run("mmpipe", *command, "--json").stdout)


def test_prefect_cannot_be_imported_where_these_tests_run_their_commands(away):
    for module in ("prefect", "prefect.flows"):
        done = away.run(sys.executable, "-c", f"import {module}", check=False)
        assert done.returncode == 1 and "No module named 'prefect" in done.stderr
    assert not list(away.root.glob("*.yaml"))


def test_a_consumer_pulls_predicts_verifies_and_rolls_back(team, away):
    answers = team.answers
    assert len({str(answer.probabilities) for answer in answers.values()}) == 3
    for spec, number in (("fusion@v1.1.0", 1), ("fusion@latest", 3), ("fusion#prod", 2)):
        pulled = told(away, "pull", spec)
        assert (pulled["version"], pulled["bundle_sha256"]) == (
            f"v1.{number}.0",
            answers[number].bundle_sha256,
        )
        if number != 1:  # that one is loaded below
            found = told(away, "predict", "--model", spec, "--text", WORDS)
            assert found["probabilities"] == answers[number].probabilities
            assert found["model"] == f"fusion@v1.{number}.0"
    assert told(away, "verify", "fusion@v1.2.0") == {"checked": 1, "faults": []}
    moved = told(away, "rollback", "--why", "too slow")
    assert (moved["version"], moved["tag"], moved["git_remote"]) == ("v1.1.0", "fusion#prod#3", "origin")
    assert "fusion#prod#3" in published.run(team.origin, "git", "tag", "--list")
    events = told(away, "history")["events"]
    assert (events[0]["what"], events[0]["version"], events[0]["who"]) == ("rollback", "v1.1.0", "Bea")
    assert sorted(event["what"] for event in events[1:]) == ["promote"] * 2 + ["publish"] * 3
    found = json.loads(away.run(sys.executable, "-c", LOAD, "fusion#prod", WORDS).stdout)
    assert found == {
        "label": answers[1].label,
        "probabilities": answers[1].probabilities,
        "model": "fusion@v1.1.0",
    }
    assert not list(away.root.rglob("params.yaml"))


def test_nothing_is_published_from_a_bare_clone(away):
    done = away.run("mmpipe", "publish", check=False)
    assert done.returncode == 5 and "is a bare repository: nothing is made there" in done.stderr


def test_what_mmpipe_needs_does_not_need_prefect():
    """Of all that `pip install mmpipe` brings, as it is installed here."""
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    waiting = [(Requirement(text), "") for text in declared["dependencies"]]
    seen: set[str] = set()
    while waiting:
        requirement, asked = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": asked}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in ("", *requirement.extras):
            if f"{name}[{extra}]" not in seen:
                seen.add(f"{name}[{extra}]")
                waiting += [(Requirement(text), extra) for text in metadata.requires(name) or []]
    assert {"dvc[]", "torch[]", "gto[]"} <= seen
    assert not [name for name in seen if name.startswith("prefect")]
    assert any(Requirement(text).name == "prefect" for text in declared["optional-dependencies"]["schedule"])
