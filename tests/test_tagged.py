"""Reading the registry: real tags in real repositories, by path and by URL, as GTO sees them."""

import json
import re
from datetime import UTC

import gto.api
import publisher
import pytest

from mmpipe.errors import NotFoundError, TemporaryError, VerificationError
from mmpipe.registry import gto_tags, messages, raw_tags, tagged
from mmpipe.registry.history import events

METRICS = {"accuracy": 0.6, "samples": 10}


class Repository:
    """Versions and stages as tags alone; the bundles they speak of are not there."""

    def __init__(self, root):
        self.root = root
        root.mkdir(parents=True)
        publisher.repository(root)

    def git(self, *words):
        return publisher.run("git", *words, cwd=self.root)

    def publish(self, version, *, name="fusion", **fields):
        self.git("commit", "--quiet", "--allow-empty", "--message", version)
        given = {"Bundle-SHA256": f"hash-of-{version}", "Metrics": METRICS, **fields}
        message = messages.write(f"{name} {version}", given)
        return gto_tags.register(self.root, name, version, commit="HEAD", message=message)

    def assign(self, version, stage="prod", *, name="fusion", **fields):
        given = {"Version": version, "Bundle-SHA256": f"hash-of-{version}", "Action": "promote", **fields}
        times = [a.when for a in tagged.read(self.root).assignments]
        assert gto_tags.wait_past(max(times, default=None))
        message = messages.write(version, given)
        return gto_tags.assign(self.root, name, version, stage=stage, message=message)

    def read(self):
        return tagged.read(self.root)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "w")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """v1.9.0, v1.10.0 and v2.0.0; prod held the first, the last, the second, and the first again."""
    made = Repository(tmp_path_factory.mktemp("three") / "w")
    for version in ("v1.9.0", "v1.10.0", "v2.0.0"):
        made.git("commit", "--quiet", "--allow-empty", "--message", "in between")
        made.publish(version)
    made.git("tag", "-a", "unrelated", "-m", "x")
    for version in ("v1.9.0", "v2.0.0", "v1.10.0"):
        made.assign(version)
    made.assign("v2.0.0", "staging")
    made.assign("v1.9.0", Action="rollback", Why="it was\nslow \x1b[31m")
    return made


def test_versions_are_read_with_all_that_their_tags_say(three):
    version = three.read().resolve("fusion@v1.10.0")
    assert (version.name, version.version, version.tag) == ("fusion", "v1.10.0", "fusion@v1.10.0")
    assert version.commit == three.git("rev-parse", "fusion@v1.10.0^{commit}").strip()
    assert (version.sentence, version.bundle_sha256) == ("fusion v1.10.0", "hash-of-v1.10.0")
    assert (version.metrics, version.gate, version.withdrawn) == (METRICS, None, False)
    assert (version.who, version.email) == ("Ada", "ada@example.com")
    assert version.when.tzinfo is not None


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        ("fusion@latest", "v2.0.0"),
        ("fusion@v1.9.0", "v1.9.0"),
        ("fusion#prod", "v1.9.0"),
        ("fusion#prod#2", "v2.0.0"),
        ("fusion#staging", "v2.0.0"),
    ],
)
def test_specs_find_their_version(three, spec, version):
    assert three.read().resolve(spec).version == version


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "fusion@v1.11.0",
            "fusion@v1.11.0 is not there: of 3 versions of fusion the nearest is fusion@v1.10.0",
        ),
        ("fusion#prd", "fusion#prd is not there: of 3 versions of fusion the nearest is fusion#prod"),
        ("fusion#prod#9", "the nearest is fusion#prod"),
        ("fusoin@latest", "fusoin@latest is not there: of 1 model the nearest is fusion"),
    ],
)
def test_what_is_missing_is_told_with_the_nearest(three, spec, words):
    with pytest.raises(NotFoundError, match=f"tag-missing .*{re.escape(words)}"):
        three.read().resolve(spec)


def test_without_any_version_it_says_so(repository):
    with pytest.raises(NotFoundError, match="fusion@latest is not there: no model is"):
        repository.read().resolve("fusion@latest")


def test_a_url_and_a_bare_repository_say_the_same(three, tmp_path):
    bare = tmp_path / "origin.git"
    three.git("clone", "--quiet", "--bare", ".", str(bare))
    here = three.read()
    assert here.versions and here.assignments
    for source in (bare, f"file://{bare}"):
        there = tagged.read(source)
        assert (there.versions, there.assignments, there.problems) == (here.versions, here.assignments, {})


def test_a_url_brings_neither_files_nor_history(three, tmp_path, monkeypatch):
    stores = []
    kept = raw_tags._read_folder

    def look(store):
        count = publisher.run("git", "count-objects", "-v", cwd=store)
        stores.append(count + publisher.run("git", "rev-list", "--all", "--count", cwd=store))
        return kept(store)

    monkeypatch.setattr(raw_tags, "_read_folder", look)
    assert len(tagged.read(f"file://{three.root}").versions) == 3
    assert stores[0].endswith("\n3\n")  # a commit a version


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("nowhere", NotFoundError, "remote-missing nowhere is not there"),
        (".", NotFoundError, r"remote-missing \. is no git repository"),
        ("file:///nowhere/at/all", TemporaryError, "remote-failed file:///nowhere/at/all git .*not appear"),
        ("https://me:secret@localhost:1/x", TemporaryError, "remote-failed https://localhost:1/x git"),
        ("ext::touch pwned", TemporaryError, "transport 'ext' not allowed"),
        ("--upload-pack=touch pwned", NotFoundError, "is not there"),
    ],
)
def test_sources_that_are_none_are_refused(tmp_path, monkeypatch, source, kind, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(kind, match=words) as caught:
        tagged.read(source)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_gto_sees_the_same_registry(three):
    ours = three.read()
    shown = gto.api.show(str(three.root), "fusion")
    assert [v["version"] for v in shown] == [v.version for v in reversed(ours.of("fusion"))]
    assert {v["version"]: v["commit_hexsha"] for v in shown} == {v.version: v.commit for v in ours.versions}
    assert gto.api.show(str(three.root))["fusion"]["version"] == ours.resolve("fusion@latest").version
    for stage in ("prod", "staging"):
        [held] = gto.api.find_versions_in_stage(str(three.root), "fusion", stage)
        # by SemVer, GTO's own order of stages, the version that is held may differ; by time it does not
        assert gto.api.show(str(three.root))["fusion"]["stage"][stage] == ours.holder("fusion", stage).version
        assert held.stage == stage


def test_gto_tells_the_same_history(three):
    theirs = [e for e in gto.api.history(str(three.root), "fusion", ascending=True) if e["event"] != "commit"]
    ours = events(three.read())
    assert len(ours) == 8

    def of_stage(found):
        return [(row["version"], row["stage"], row["ref"]) for row in found if row["stage"]]

    assert of_stage(theirs) == [(e.version, e.stage, e.tag) for e in ours if e.stage]
    assert {(e["ref"], e["author"], e["timestamp"].timestamp()) for e in theirs} == {
        (e.tag, e.who, e.when.astimezone(UTC).timestamp()) for e in ours
    }


def test_the_log_says_who_what_and_why_in_order(three):
    told = [(e.what, e.version, e.stage, e.n) for e in events(three.read())]
    assert [t for t in told if t[0] != "publish"] == [
        ("promote", "v1.9.0", "prod", 1),
        ("promote", "v2.0.0", "prod", 2),
        ("promote", "v1.10.0", "prod", 3),
        ("promote", "v2.0.0", "staging", 4),
        ("rollback", "v1.9.0", "prod", 5),
    ]
    assert [t[1] for t in told if t[0] == "publish"] == ["v1.9.0", "v1.10.0", "v2.0.0"]
    last = events(three.read())[-1]
    assert (last.why, last.metrics, last.who) == ("it was\nslow \x1b[31m", METRICS, "Ada")
    assert [e.tag for e in events(three.read(), stage="staging")] == ["fusion#staging#4"]


def test_a_version_is_told_before_what_was_done_with_it_whatever_the_clock_says(repository):
    repository.publish("v1.0.0")
    repository.publish("v1.1.0")
    for version, date in (("v1.0.0", "2001-01-01T00:00:00Z"), ("v1.1.0", "2000-01-01T00:00:00Z")):
        message = messages.write("x", {"Version": version, "Action": "promote"})
        tag = f"fusion#prod#{1 if version == 'v1.0.0' else 2}"
        words = ["-c", "user.name=Ada", "tag", "-a", "-m", message, tag, f"fusion@{version}^{{}}"]
        publisher.run("env", f"GIT_COMMITTER_DATE={date}", "git", *words, cwd=repository.root)
    told = [(e.what, e.version) for e in events(repository.read())]
    assert told == [
        ("publish", "v1.0.0"),
        ("promote", "v1.0.0"),
        ("publish", "v1.1.0"),
        ("promote", "v1.1.0"),
    ]
    assert repository.read().resolve("fusion#prod").version == "v1.1.0"


def test_a_version_tag_that_moved_is_named(repository):
    repository.publish("v1.0.0")
    repository.publish("v1.1.0")
    repository.assign("v1.0.0")
    message = repository.git("tag", "--list", "--format=%(contents)", "fusion@v1.0.0")
    repository.git("tag", "--force", "-a", "-m", message, "fusion@v1.0.0", "HEAD")
    registry = repository.read()
    assert set(registry.problems) == {"fusion@v1.0.0", "fusion#prod#1"}
    for spec in ("fusion@v1.0.0", "fusion#prod"):
        with pytest.raises(
            VerificationError, match=r"tag-moved .*when fusion#prod#1 was made, fusion@v1\.0\.0"
        ):
            registry.resolve(spec)
    assert registry.resolve("fusion@latest").version == "v1.1.0"


def test_a_version_tag_that_names_another_bundle_now_is_named(repository):
    repository.publish("v1.0.0")
    repository.assign("v1.0.0")
    message = messages.write("fusion v1.0.0", {"Bundle-SHA256": "another"})
    repository.git("tag", "--force", "-a", "-m", message, "fusion@v1.0.0", "HEAD")
    with pytest.raises(VerificationError, match=r"was bundle hash-of-v1\.0; now it is bundle another"):
        repository.read().resolve("fusion#prod")


def test_a_version_that_is_gone_is_named(repository):
    repository.publish("v1.0.0")
    repository.assign("v1.0.0")
    repository.publish("v1.1.0")
    repository.git("tag", "--delete", "fusion@v1.0.0")
    with pytest.raises(VerificationError, match=r"gives the stage to v1\.0\.0, and there is no such version"):
        repository.read().resolve("fusion#prod")


def test_a_tag_under_another_name_is_named(repository):
    repository.publish("v1.0.0")
    repository.git("update-ref", "refs/tags/fusion@v1.1.0", "refs/tags/fusion@v1.0.0")
    for spec in ("fusion@v1.1.0", "fusion@latest"):
        with pytest.raises(VerificationError, match=r"it is the tag fusion@v1\.0\.0 under another name"):
            repository.read().resolve(spec)
    assert repository.read().resolve("fusion@v1.0.0")


@pytest.mark.parametrize(
    ("tag", "spec"),
    [
        ("fusion@v1.1.0", "fusion@latest"),
        ("fusion@v1.1.0", "fusion@v1.1.0"),
        ("fusion#prod#2", "fusion#prod"),
    ],
)
def test_a_lightweight_tag_is_named_where_it_would_count(repository, tag, spec):
    repository.publish("v1.0.0")
    repository.assign("v1.0.0")
    repository.git("tag", tag)
    with pytest.raises(VerificationError, match=f"tag-moved {tag} is no annotated tag of a commit"):
        repository.read().resolve(spec)
    assert repository.read().resolve("fusion@v1.0.0").version == "v1.0.0"


def test_an_older_lightweight_tag_harms_nothing(repository):
    repository.git("commit", "--quiet", "--allow-empty", "--message", "x")
    repository.git("tag", "fusion@v0.9.0")
    repository.publish("v1.0.0")
    assert repository.read().resolve("fusion@latest").version == "v1.0.0"
    assert list(repository.read().problems) == ["fusion@v0.9.0"]


def test_tags_of_gtos_own_are_read(repository):
    root = str(repository.root)
    repository.git("commit", "--quiet", "--allow-empty", "--message", "x")
    gto.api.register(root, "fusion", "HEAD", version="v1.0.0")
    gto.api.assign(root, "fusion", "prod", version="v1.0.0")
    registry = repository.read()
    version = registry.resolve("fusion#prod")
    assert (version.version, version.bundle_sha256, version.metrics) == ("v1.0.0", "", {})
    assert registry.holder("fusion", "prod").action == "assign"


def test_what_was_taken_back_is_as_gto_has_it(repository):
    root = str(repository.root)
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        repository.publish(version)
    repository.assign("v1.0.0")
    repository.assign("v1.1.0")
    assert gto_tags.wait_past(repository.read().log("fusion", "prod")[-1].when)
    gto.api.unassign(root, "fusion", version="v1.1.0", stage="prod")
    gto.api.deregister(root, "fusion", version="v1.2.0")
    registry = repository.read()
    shown = gto.api.show(root)["fusion"]
    assert shown["stage"]["prod"] == registry.resolve("fusion#prod").version == "v1.0.0"
    assert shown["version"] == registry.resolve("fusion@latest").version == "v1.1.0"
    assert [e.what for e in events(registry, stage="prod")] == ["promote", "promote", "unassign"]
    with pytest.raises(NotFoundError, match=r"fusion@v1\.2\.0 was withdrawn"):
        registry.resolve("fusion@v1.2.0")


def test_models_of_two_workspaces_are_told_apart(repository):
    for name in ("vision:fusion", "speech:fusion"):
        repository.publish("v1.0.0", name=name)
    (repository.root / "vision").mkdir()
    assert repository.git("tag").split() == ["speech=fusion@v1.0.0", "vision=fusion@v1.0.0"]
    assert tagged.read(repository.root / "vision").resolve("fusion@latest").name == "vision:fusion"
    assert repository.read().resolve("speech:fusion@v1.0.0").name == "speech:fusion"
    with pytest.raises(NotFoundError, match="of 2 models the nearest is"):
        repository.read().resolve("fusion@latest")


def test_a_thousand_versions_are_read_in_one_call(repository):
    repository.git("commit", "--quiet", "--allow-empty", "--message", "x")
    commit = repository.git("rev-parse", "HEAD").strip()
    made = "".join(
        f"tag fusion@v1.{n}.0\nfrom {commit}\ntagger A <a@b> {n} +0000\ndata 2\nx\n\n" for n in range(1_000)
    )
    (repository.root / "stream").write_text(made)
    publisher.run("sh", "-c", "git fast-import --quiet < stream", cwd=repository.root)
    assert repository.read().resolve("fusion@latest").version == "v1.999.0"


@pytest.mark.parametrize(
    "line",
    [
        "Metrics: [1]",
        "Metrics: {",
        "Gate: {}",
        'Gate: {"verdict": "sure"}',
        'Gate: {"verdict": "promote", "reasons": "x"}',
        'Gate: {"verdict": "promote", "champion": 3}',
        "Gate: " + "[" * 100_000,
        "Nothing: 1",
        "Metrics",
    ],
)
def test_fields_that_a_stranger_wrote_wrongly_are_left_out(line):
    assert messages.read(f"one\n\n{line}\nWhy: kept") == ("one", {"Why": "kept"})


def test_a_message_is_read_as_it_was_written():
    gate = {"verdict": "refuse", "reasons": ["é\n\u2028"], "champion": None}
    fields = {"Bundle-SHA256": "12", "Why": "a\nGate: {}\r\x85", "Gate": gate, "Metrics": METRICS}
    assert messages.read(messages.write("one", fields)) == ("one", fields)
    assert messages.read(messages.write("one", {"Why": "\udcff"})) == ("one", {"Why": "?"})
    with pytest.raises(ValueError, match="JSON"):
        messages.write("one", {"Metrics": {"accuracy": float("nan")}})
    text = json.dumps({"accuracy": 1, "nan": float("nan"), "yes": True, "word": "x"})
    assert messages.read(f"one\n\nMetrics: {text}")[1] == {"Metrics": {"accuracy": 1}}
