import re

import pytest
import semver
from gto import constants
from gto.tag import parse_name
from hypothesis import given
from hypothesis import strategies as st

from mmpipe import tags
from mmpipe.errors import UsageError
from mmpipe.tags import Spec, Tag

NUMBERS = st.integers(0, 30)
LABELS = st.from_regex(r"(0|[1-9][0-9]{0,2}|[a-z-][a-z0-9-]{0,3})", fullmatch=True)
VERSIONS = st.builds(
    lambda a, b, c, pre, build: (
        f"v{a}.{b}.{c}" + (f"-{'.'.join(pre)}" if pre else "") + (f"+{build}" if build else "")
    ),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.lists(LABELS, max_size=3),
    st.sampled_from(["", "", "a1"]),
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("fusion@v1.2.0", Spec("fusion", "v1.2.0")),
        ("fusion@latest", Spec("fusion")),
        ("fusion#prod", Spec("fusion", stage="prod")),
        ("fusion#prod#3", Spec("fusion", stage="prod", n=3)),
        ("vision/own:fusion@v1.2.0-rc.1+b2", Spec("vision/own:fusion", "v1.2.0-rc.1+b2")),
    ],
)
def test_specs_are_read_and_written(text, spec):
    assert tags.parse_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("fusion", "fusion@latest"),
        ("v1.2", "fusion@v1.2.0"),
        ("1.2.0", "fusion@v1.2.0"),
        ("fusion@1.2.0", "fusion@v1.2.0"),
        ("fusion:v1.2.0", "fusion@v1.2.0"),
        ("fusion V1", "fusion@v1.0.0"),
        ("fusion@01.2.3", "fusion@v1.2.3"),
        ("fusion@prod", "fusion#prod"),
        ("fusion:latest", "fusion@latest"),
        ("fusion#v1.2.0", "fusion@v1.2.0"),
        ("", "NAME@vX.Y.Z"),
        ("fusion@v1.0.0!", "NAME@vX.Y.Z"),
        ("../fusion", "NAME@vX.Y.Z"),
        ("a//b@latest", "NAME@vX.Y.Z"),
        ("fusion@v" + "9" * 5_000 + ".0.0", "NAME@vX.Y.Z"),
    ],
)
def test_other_specs_are_refused_with_what_was_meant(text, meant):
    with pytest.raises(UsageError, match=f"tag-name .*Fix: write {re.escape(meant)}"):
        tags.parse_spec(text)


def test_tags_are_read_as_gto_reads_them():
    assert tags.parse_tag("fusion@v1.2.0") == Tag("fusion", "v1.2.0", None, 0, False)
    assert tags.parse_tag("fusion#prod#3") == Tag("fusion", None, "prod", 3, False)
    assert tags.parse_tag("vision=fusion#prod!#4") == Tag("vision:fusion", None, "prod", 4, True)
    assert tags.parse_tag("fusion@deprecated#1") is None
    assert tags.parse_tag("release-7") is None


@given(
    st.from_regex(r"(a=)?[ab/-]{1,3}[@#](v[0-9]\.0\.[01](-r)?|[a-z]{1,3})!?(#[0-9]{1,2})?", fullmatch=True)
)
def test_every_tag_means_what_it_means_to_gto(text):
    ours, theirs = tags.parse_tag(text), parse_name(text, raise_on_fail=False)
    if "version" not in theirs and "stage" not in theirs:
        assert ours is None
        return
    if "//" in text:  # no git tag can be called so
        assert ours is None
        return
    said = (theirs["name"], theirs.get("version"), theirs.get("stage"), theirs.get("counter", 0))
    assert ours is not None and (ours.name, ours.version, ours.stage, ours.n) == said
    assert ours.cancels == (theirs["action"].value in ("deregister", "unassign"))


@given(VERSIONS)
def test_a_versions_tag_is_read_back(version):
    assert constants.tag_re.search(tag := tags.version_tag("vision:fusion", version))
    assert tags.parse_tag(tag) == Tag("vision:fusion", version, None, 0, False)


@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_as_semver_orders_them(one, other):
    compared = semver.VersionInfo.parse(one[1:]).compare(other[1:])
    ours = (tags.order(one) > tags.order(other)) - (tags.order(one) < tags.order(other))
    assert ours == compared or (compared == 0 and one.split("+")[0] == other.split("+")[0])


@given(VERSIONS, st.sampled_from(["major", "minor", "patch"]))
def test_the_next_version_is_later_and_the_first_is_one(version, part):
    assert tags.order(tags.bump(version, part)) > tags.order(version)
    assert tags.bump(None, part) == "v1.0.0"


def test_the_part_that_is_raised_sets_those_below_to_zero():
    assert [tags.bump("v1.2.3", part) for part in ("major", "minor", "patch")] == [
        "v2.0.0",
        "v1.3.0",
        "v1.2.4",
    ]


def test_the_nearest_is_the_most_alike():
    assert tags.nearest("fusion@v1.3.0", ["fusion@v1.2.0", "fusion@v10.0.0"]) == "fusion@v1.2.0"
    assert tags.nearest("fusoin", ["video", "fusion"]) == "fusion"
    assert tags.nearest("x", []) is None


def test_names_of_models_in_folders_follow_the_grammar():
    assert tags.full_name("") == "fusion"
    assert tags.full_name("vision/own") == "vision/own:fusion"
    with pytest.raises(UsageError, match="cannot be a model's name"):
        tags.full_name("my models")


@pytest.mark.parametrize("stage", ["", "prod!", "a#b", "-x", "pröd"])
def test_stages_that_no_tag_can_name_are_refused(stage):
    with pytest.raises(UsageError, match="cannot be a stage"):
        tags.check_stage(stage)
    assert tags.check_stage("pre-prod") == "pre-prod"


def test_versions_are_told_from_what_looks_like_one():
    assert tags.check_version("v1.1.0") == "v1.1.0"
    with pytest.raises(UsageError, match=r"Fix: write v1\.1\.0"):
        tags.check_version("1.1")
