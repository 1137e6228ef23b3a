"""`mmpipe publish` on a real pipeline with real remotes: what it refuses and makes, and in which order."""

import contextlib
import json
import shutil

import publisher
import pytest
import signing
from typer.testing import CliRunner

from mmpipe import bundle
from mmpipe.cli import app
from mmpipe.errors import InvalidError, MmpipeError, NotFoundError, TemporaryError, VerificationError
from mmpipe.registry import changes, tagged
from mmpipe.registry.promote import promote
from mmpipe.registry.publish import Wishes, publish
from mmpipe.stages import code

AUTO = Wishes()
HERE = Wishes(push=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a first model and two remotes, nothing publisher."""
    return publisher.make(tmp_path_factory.mktemp("made") / "site")


@pytest.fixture(scope="module")
def once(made, tmp_path_factory):
    """The same, published as v1.0.0."""
    site = publisher.copy(made, tmp_path_factory.mktemp("once") / "site")
    publish(site.root)
    return site


@pytest.fixture
def site(made, tmp_path):
    return publisher.copy(made, tmp_path / "site")


@pytest.fixture
def second(once, tmp_path):
    return publisher.copy(once, tmp_path / "site")


def call(root, *arguments):
    with contextlib.chdir(root):
        return CliRunner().invoke(app, arguments, catch_exceptions=False)


def unmade(site):
    """That a refusal left nothing behind."""
    assert site.tags() == site.tags(site.origin) == []


def test_the_first_version_is_one_and_its_tag_says_all(site):
    head, status = site.git("rev-parse", "HEAD"), site.git("status", "--porcelain")
    found = publish(site.root)
    digest = bundle.read(site.root / "models/fusion").digest
    assert (found.tag, found.version, found.bundle_sha256) == ("fusion@v1.0.0", "v1.0.0", digest)
    assert (found.data_remote, found.git_remote) == ("store", "origin")
    assert site.message("fusion@v1.0.0").splitlines() == [
        "fusion v1.0.0: accuracy 0.600 [0.500, 0.700] on 132 test samples",
        "",
        f"Bundle-SHA256: {digest}",
        f"Data-SHA256: {'d' * 64}",
        'Metrics: {"accuracy": 0.6, "accuracy_high": 0.7, "accuracy_low": 0.5, "ece": 0.04, '
        '"macro_f1": 0.55, "samples": 132}',
        'Gate: {"champion": null, "reasons": ["nothing holds prod"], "verdict": "none"}',
        "",
    ]
    assert (site.git("rev-parse", "HEAD"), site.git("status", "--porcelain")) == (head, status)
    assert site.git("rev-parse", "main", "fusion@v1.0.0^{}", cwd=site.origin) == head * 2
    [version] = tagged.read(site.origin).versions
    assert (version.tag, version.bundle_sha256) == ("fusion@v1.0.0", digest)


def test_the_data_are_there_before_the_tag_is(site):
    """The origin's own hook sees what DVC's remote holds when the tag arrives."""
    hook = site.origin / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\ncat > {site.root.parent}/pushed\nfind {site.store} -type f > {site.root.parent}/seen\n"
    )
    hook.chmod(0o755)
    publish(site.root)
    seen = (site.root.parent / "seen").read_text().splitlines()
    assert sorted(seen) == sorted(str(path) for path in site.store.rglob("*") if path.is_file())
    assert len(seen) >= 5
    assert "refs/tags/fusion@v1.0.0" in (site.root.parent / "pushed").read_text()


def test_where_the_data_cannot_be_pushed_nothing_is_tagged(site):
    shutil.rmtree(site.store)
    site.store.write_text("no folder")
    with pytest.raises(MmpipeError, match="data-unpushed dvc push to store failed"):
        publish(site.root)
    unmade(site)


def test_without_a_push_the_data_must_be_pushed_already(site):
    with pytest.raises(
        InvalidError, match=r"data-unpushed store does not have .*models/fusion \(\S+\).*Fix: run `dvc push`"
    ):
        publish(site.root, HERE)
    unmade(site)
    site.dvc("push", "--quiet")
    assert publish(site.root, HERE).git_remote is None
    assert (site.tags(), site.tags(site.origin)) == (["fusion@v1.0.0"], [])
    found = publish(site.root)
    assert (found.made, found.tag, site.tags(site.origin)) == (False, "fusion@v1.0.0", ["fusion@v1.0.0"])


def test_without_remotes_the_tag_is_made_here(tmp_path):
    site = publisher.make(tmp_path / "site", remotes=False)
    found = publish(site.root)
    assert (found.data_remote, found.git_remote, site.tags()) == (None, None, ["fusion@v1.0.0"])
    done = call(site.root, "publish")
    assert done.exit_code == 5 and "tag-exists" in done.stderr


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("dvc.yaml", "1 file is not in the commit: dvc.yaml"),
        ("new/a b.txt", "not in the commit: new/a b.txt"),
    ],
)
def test_a_dirty_tree_is_refused_by_name(site, path, words):
    (site.root / path).parent.mkdir(exist_ok=True)
    with (site.root / path).open("a") as file:
        file.write("\n# x\n")
    with pytest.raises(InvalidError, match=f"tree-dirty .*{words}"):
        publish(site.root)
    unmade(site)


def test_many_dirty_files_are_counted(site):
    for n in range(9):
        (site.root / f"f{n}").write_text("x")
    with pytest.raises(InvalidError, match="9 files are not in the commit: f0, f1, f2, f3, f4 and 4 more"):
        publish(site.root)


def test_ignored_files_are_no_dirt(site):
    (site.root / "models/notes.txt").write_text("mine")
    assert publish(site.root).version == "v1.0.0"


def test_an_unreproduced_pipeline_is_refused_by_stage(site):
    publisher.source(site.root, "changed")
    site.commit("without dvc repro")
    with pytest.raises(
        InvalidError, match=r"pipeline-stale dvc\.yaml not reproduced: bundle \(changed deps: source"
    ):
        publish(site.root)
    unmade(site)


def test_a_stage_whose_code_changed_is_refused(site):
    with pytest.raises(InvalidError, match=r"not reproduced: train \(its code changed\)"):
        publish(site.root, stale=["train"])
    unmade(site)


def test_code_and_defaults_that_changed_since_are_found(tmp_path, repository):
    assert code.stale(tmp_path) == []
    shutil.copy(repository / "params.yaml", tmp_path)
    found = code.fingerprints(tmp_path)
    for stage, change in (("train", {}), ("extract_text", {"python": "2.7"}), ("split", {"params": {}})):
        path = tmp_path / f"data/code/{stage}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        code.write_json(path, found[stage] | change)
    assert sorted(code.stale(tmp_path)) == ["extract_text", "split"]


def test_a_damaged_bundle_is_refused(site):
    path = site.root / "models/fusion/config.json"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"cat", b"cow"))
    with pytest.raises(VerificationError, match=r"bundle-damaged \S*models/fusion/config\.json"):
        publish(site.root)
    shutil.rmtree(path.parent)
    with pytest.raises(NotFoundError, match="bundle-missing"):
        publish(site.root)
    unmade(site)


def test_a_whole_bundle_that_the_commit_does_not_record_is_refused(site):
    digest = publisher.source(site.root, "stranger")
    shutil.rmtree(site.root / "models/fusion")
    shutil.move(site.root / "source", site.root / "models/fusion")
    site.git("checkout", "source")
    assert bundle.read(site.root / "models/fusion").digest == digest
    with pytest.raises(InvalidError, match=r"pipeline-stale models/fusion is \w+, the commit records \w+"):
        publish(site.root)
    unmade(site)


def test_a_lock_file_that_is_not_in_the_commit_records_nothing(site):
    site.git("rm", "--quiet", "--cached", "dvc.lock")
    (site.root / ".gitignore").write_text("/models/\n/data/\n/dvc.lock\n")
    site.commit("without the lock")
    with pytest.raises(InvalidError, match="the commit records none"):
        publish(site.root)


def test_a_model_that_was_not_evaluated_is_refused(site):
    contents = bundle.read(site.root / "source").files
    bundle.write(site.root / "source", contents | {"metrics.json": b"{}"})
    site.dvc("repro", "--quiet")
    site.commit("no metrics")
    with pytest.raises(InvalidError, match="the model was not evaluated"):
        publish(site.root)


def test_an_artifact_that_dvc_does_not_know_is_refused(site):
    pipeline = (site.root / "dvc.yaml").read_text()
    (site.root / "dvc.yaml").write_text(pipeline.replace("fusion: {", "vision: {"))
    site.commit("renamed")
    with pytest.raises(
        NotFoundError, match=r"dvc\.yaml has no artifact 'fusion'.*Fix: add to dvc\.yaml: artifacts:"
    ):
        publish(site.root)
    assert publish(site.root, name="vision").tag == "vision@v1.0.0"


def test_git_states_that_cannot_be_published(site, tmp_path):
    with pytest.raises(InvalidError, match=r"git-state .* is in no git repository"):
        publish(tmp_path)
    (tmp_path / "empty").mkdir()
    publisher.repository(tmp_path / "empty")
    with pytest.raises(InvalidError, match=r"git-state .* has no commit yet"):
        publish(tmp_path / "empty")
    site.git("push", "--quiet", "origin", "main")
    site.git("clone", "--quiet", "--depth", "1", f"file://{site.origin}", str(tmp_path / "shallow"))
    with pytest.raises(InvalidError, match=r"is a shallow clone.*Fix: git fetch --unshallow"):
        publish(tmp_path / "shallow")
    site.git("checkout", "--quiet", "--detach")
    with pytest.raises(InvalidError, match=r"is on no branch \(detached at \w{12}\).*--detached"):
        publish(site.root)
    unmade(site)
    assert publish(site.root, Wishes(detached=True)).tag == "fusion@v1.0.0"
    assert site.tags(site.origin) == ["fusion@v1.0.0"]


def test_git_must_know_who_is_at_work(site, monkeypatch):
    site.git("config", "--unset", "user.name")
    site.git("config", "--unset", "user.email")
    for key in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(key, str(site.root.parent))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    with pytest.raises(InvalidError, match=r"git does not know who you are.*git config user\.name"):
        publish(site.root)
    unmade(site)


def test_a_version_is_published_once(second):
    with pytest.raises(InvalidError, match=r"tag-exists fusion@v1\.0\.0 is this commit already"):
        publish(second.root)
    second.commit("another commit, the same bundle")
    with pytest.raises(
        InvalidError, match=r"tag-exists fusion@v1\.0\.0 is this bundle already, byte for byte"
    ):
        publish(second.root)
    assert second.tags() == ["fusion@v1.0.0"]


@pytest.mark.parametrize(
    ("change", "part", "names"),
    [
        ({"labels": ["cat", "dog", "cow"]}, "major", ["labels"]),
        ({"task": "regress", "params": {}}, "major", ["task"]),
        ({"architecture": {"modalities": ["image"], "dim": 8}}, "major", ["modalities"]),
        ({"params": {"train": {"lr": 0.2}}}, "minor", ["params"]),
        ({"data_sha256": "e" * 64}, "minor", ["data"]),
        ({"architecture": {"modalities": ["image", "text"], "dim": 9}}, "minor", ["architecture"]),
        ({"libraries": {"torch": "3"}, "temperature": 2.0}, "patch", []),
    ],
)
def test_the_part_to_raise_follows_from_what_changed(change, part, names):
    assert changes.judge(publisher.CONFIG, publisher.CONFIG | change) == (part, names)


def test_the_number_is_found_from_the_version_before_unless_it_is_said(second):
    second.train("second", labels=["cat", "dog", "cow"])
    found = publish(second.root, Wishes(dry_run=True))
    assert (found.version, found.why) == ("v2.0.0", "major: labels changed since v1.0.0")
    said = publish(second.root, Wishes(bump="patch", dry_run=True))
    assert (said.version, said.why) == ("v1.0.1", "patch, as said")


def test_a_number_is_not_used_again(second):
    second.git("tag", "fusion@v1.7.0")
    second.train("second")
    assert publish(second.root, Wishes(bump="patch", dry_run=True)).version == "v1.7.1"


def test_what_changed_is_read_from_the_remote_and_refused_where_it_cannot_be_had(second, tmp_path):
    second.train("second", params={"train": {"lr": 0.3}})
    shutil.rmtree(second.root / ".dvc/cache")
    second.dvc("commit", "--quiet", "--force")
    assert publish(second.root, Wishes(dry_run=True)).version == "v1.1.0"
    shutil.rmtree(second.root / ".dvc/cache")
    second.dvc("commit", "--quiet", "--force")
    shutil.move(second.store, tmp_path / "away")
    with pytest.raises(
        InvalidError, match=r"bundle-missing config\.json of fusion@v1\.0\.0 cannot be had.*--bump"
    ):
        publish(second.root, Wishes(dry_run=True))
    assert publish(second.root, Wishes(bump="minor", dry_run=True)).version == "v1.1.0"


def test_a_bundle_that_is_not_the_tags_decides_nothing(second):
    message = second.message("fusion@v1.0.0").replace("Bundle-SHA256: ", "Bundle-SHA256: f")
    second.git("tag", "--force", "-a", "-m", message, "fusion@v1.0.0", "HEAD")
    second.train("second")
    with pytest.raises(InvalidError, match="is of another bundle than the tag says"):
        publish(second.root, Wishes(dry_run=True, push=False))


def state(site):
    """Every ref here and at the origin, and all that the storage holds."""
    refs = [site.git("for-each-ref", cwd=where) for where in (site.root, site.origin)]
    return refs, sorted(path for path in site.store.rglob("*"))


def test_a_dry_run_makes_nothing(site):
    before = state(site)
    found = publish(site.root, Wishes(dry_run=True))
    assert (found.tag, found.dry_run, found.unseen) == ("fusion@v1.0.0", True, ())
    unmade(site)
    assert state(site) == before and not any(site.store.iterdir())


def test_a_dry_run_asks_the_remotes(second, tmp_path):
    """What a publish would stop at, without a tag or a branch brought here."""
    other, dry = tmp_path / "other", Wishes(bump="patch", dry_run=True)
    second.train("second")
    second.git("clone", "--quiet", str(second.origin), str(other))
    publisher.repository(other)
    for tag in ("fusion@v1.4.0", "fusion#prod#1"):
        publisher.run("git", "tag", "-a", "-m", "theirs", tag, "HEAD", cwd=other)
        second.git("push", "--quiet", "origin", tag, cwd=other)
    before = state(second)
    found = publish(second.root, dry)
    assert (found.version, found.unseen) == ("v1.4.1", ("fusion#prod#1", "fusion@v1.4.0"))
    assert (
        publish(second.root, Wishes(dry_run=True)).why
        == "at least: v1.4.0 is not here, to see what changed since"
    )
    assert state(second) == before
    told = call(second.root, "publish", "--dry-run", "--bump", "patch").stdout
    assert "at origin and not here (git fetch --tags): fusion#prod#1, fusion@v1.4.0" in told
    publisher.run("git", "commit", "-qm", "x", "--allow-empty", cwd=other)
    second.git("push", "--quiet", "origin", "main", cwd=other)
    with pytest.raises(InvalidError, match="git-state main has commits at origin that are not here"):
        publish(second.root, dry)
    second.git("push", "--quiet", "--force", "origin", "main")
    second.git("tag", "--force", "-a", "-m", "mine", "fusion@v1.0.0", "HEAD")
    with pytest.raises(
        VerificationError, match=r"tag-moved fusion@v1\.0\.0 is another tag at origin than here"
    ):
        publish(second.root, dry)
    shutil.rmtree(second.origin)
    with pytest.raises(TemporaryError, match=r"(?s)remote-failed .* nothing was tagged"):
        publish(second.root, dry)


def test_a_dry_run_looks_at_the_data_as_far_as_nothing_needs_writing(second):
    second.train("second")
    dry, here = Wishes(dry_run=True), Wishes(push=False, dry_run=True)
    publish(second.root, dry)
    with pytest.raises(InvalidError, match=r"data-unpushed store does not have models/fusion"):
        publish(second.root, here)
    second.dvc("push", "--quiet")
    publish(second.root, here)
    weights = next(
        path for path in second.store.rglob("*") if path.is_file() and path.read_bytes() == b"second"
    )
    weights.chmod(0o644)
    weights.write_bytes(b"secoNd")
    for wishes in (dry, here):
        with pytest.raises(VerificationError, match=f"object-damaged {weights}"):
            publish(second.root, wishes)


def test_a_push_that_fails_leaves_the_tag_and_says_what_to_repeat(site):
    hook = site.origin / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho closed for the weekend >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(MmpipeError, match=r"(?s)remote-failed .*closed for the weekend") as caught:
        publish(site.root)
    assert (site.tags(), site.tags(site.origin)) == (["fusion@v1.0.0"], [])
    hook.unlink()
    publisher.run("sh", "-c", caught.value.fix, cwd=site.root)
    assert site.tags(site.origin) == ["fusion@v1.0.0"]
    assert site.git("rev-parse", "main") == site.git("rev-parse", "main", cwd=site.origin)


def test_an_origin_that_is_not_there_is_found_before_anything_is_made(site):
    shutil.rmtree(site.origin)
    with pytest.raises(TemporaryError, match=r"(?s)remote-failed .* nothing was tagged"):
        publish(site.root)
    assert site.tags() == []


def test_a_branch_that_the_origin_would_not_take_is_found_before_the_tag(second, tmp_path):
    other = tmp_path / "other"
    second.git("clone", "--quiet", str(second.origin), str(other))
    publisher.run(
        "git", "-c", "user.name=B", "-c", "user.email=b@c", "commit", "-qm", "x", "--allow-empty", cwd=other
    )
    second.git("push", "--quiet", "origin", "main", cwd=other)
    second.train("second")
    with pytest.raises(InvalidError, match="git-state main has commits at origin that are not here"):
        publish(second.root)
    assert second.tags() == ["fusion@v1.0.0"]


def test_a_tag_that_is_another_one_at_the_origin_is_named(second):
    second.git("tag", "--force", "-a", "-m", "mine", "fusion@v1.0.0", "HEAD")
    second.train("second")
    with pytest.raises(
        VerificationError, match=r"tag-moved fusion@v1\.0\.0 is another tag at origin than here"
    ):
        publish(second.root, Wishes(bump="minor"))


def test_versions_that_others_published_count(second, tmp_path):
    other = tmp_path / "other"
    second.git("clone", "--quiet", str(second.origin), str(other))
    publisher.repository(other)
    message = "fusion v1.4.0\n\nBundle-SHA256: x"
    publisher.run("git", "tag", "-a", "-m", message, "fusion@v1.4.0", "HEAD", cwd=other)
    second.git("push", "--quiet", "origin", "fusion@v1.4.0", cwd=other)
    second.train("second")
    assert publish(second.root, Wishes(bump="patch")).version == "v1.4.1"


def test_the_gate_is_asked_about_the_champion_and_its_verdict_is_recorded(second):
    asked = []

    def judge(champion, challenger):
        asked.append((champion.tag, challenger))
        return {
            "verdict": "refuse",
            "reasons": ["it is worse"],
            "champion": "models/old",
            "figures": {"p": 0.5},
        }

    second.train("second")
    assert publish(second.root, Wishes(dry_run=True), judge=judge).gate["reasons"] == ["nothing holds prod"]
    promote(second.root, "fusion@latest")
    verdict = {"verdict": "refuse", "reasons": ["it is worse"], "champion": "fusion@v1.0.0"}
    assert publish(second.root, judge=judge).gate == verdict
    assert asked == [("fusion@v1.0.0", second.root / "models/fusion")]
    assert tagged.read(second.root).resolve("fusion@latest").gate == verdict


def test_the_gate_is_asked_about_the_bundle_at_the_artifacts_own_path(second):
    """Also where an older model lies at models/fusion."""
    asked = []

    def judge(champion, challenger):
        asked.append((champion.tag, challenger))
        return {"verdict": "promote", "reasons": []}

    promote(second.root, "fusion@latest")
    pipeline = second.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("models/fusion", "models/other"))
    second.train("second")
    assert (second.root / "models/fusion").is_dir() and (second.root / "models/other").is_dir()
    publish(second.root, Wishes(bump="patch", dry_run=True), judge=judge)
    assert asked == [("fusion@v1.0.0", second.root / "models/other")]


def test_a_signature_is_carried_by_the_tag(site):
    publish(site.root, sign=lambda folder: f"signed-{bundle.read(folder).digest[:8]}")
    [version] = tagged.read(site.root).versions
    assert version.signature == f"signed-{version.bundle_sha256[:8]}"


def test_a_workspace_in_a_folder_has_it_in_the_models_name(tmp_path):
    root = tmp_path / "top/vision"
    root.mkdir(parents=True)
    publisher.repository(root.parent)
    site = publisher.Site(root)
    site.dvc("init", "--quiet", "--subdir")
    (root / "dvc.yaml").write_text(publisher.PIPELINE)
    (root / ".gitignore").write_text("/models/\n/data/\n")
    site.train("first")
    assert publish(root).tag == "vision=fusion@v1.0.0"
    site.train("second", labels=["a", "b"])
    assert publish(root).tag == "vision=fusion@v2.0.0"
    assert promote(root, "fusion@v1.0.0").tag == "vision=fusion#prod#1"
    import dvc.api

    shown = dvc.api.artifacts_show("vision:fusion", stage="prod", repo=str(root.parent))
    assert shown == {"rev": site.git("rev-parse", "HEAD~1").strip(), "path": "vision/models/fusion"}


def test_dvc_finds_and_fetches_what_was_published(site, tmp_path):
    site.dvc(
        "remote", "modify", "store", "url", str(site.store)
    )  # a relative one is not found from elsewhere
    site.commit("absolute")
    publish(site.root)
    promote(site.root, "fusion@v1.0.0")
    site.train("second")
    words = ("artifacts", "get", str(site.origin), "fusion", "--stage", "prod", "-o", str(tmp_path / "got"))
    site.dvc(*words)
    assert (tmp_path / "got/model.safetensors").read_text() == "first"
    assert (
        bundle.read(tmp_path / "got").digest == tagged.read(site.origin).resolve("fusion#prod").bundle_sha256
    )


def test_the_command_signs_and_a_pull_checks_it(site):
    pytest.importorskip("model_signing")
    private, public = signing.keys(site.root.parent, "team")
    done = call(site.root, "publish", "--sign", str(public))
    assert done.exit_code == 3 and "is no private key of an elliptic curve" in done.stderr
    unmade(site)
    assert call(site.root, "publish", "--sign", str(private)).exit_code == 0
    done = call(site.root, "pull", "fusion@v1.0.0", "--require-signature", str(public))
    assert done.exit_code == 0 and "signature holds" in done.stdout


def test_the_command_tells_people_and_programs(site):
    dry = call(site.root, "publish", "--dry-run")
    assert dry.stdout.splitlines()[0] == (
        "would publish fusion@v1.0.0 (the first version): accuracy 0.600 [0.500, 0.700] on 132 test samples"
    )
    found = json.loads(call(site.root, "publish", "--json").stdout)
    assert (found["tag"], found["made"], found["git_remote"]) == ("fusion@v1.0.0", True, "origin")
    assert found["metrics"]["samples"] == 132
    again = call(site.root, "publish")
    assert (again.exit_code, again.stdout) == (5, "") and again.stderr.startswith("tag-exists fusion@v1.0.0")
