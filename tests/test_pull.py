"""Pull: by version, stage and latest, from anywhere; what arrives is whole, or what was there stays."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import killed
import published
import pytest
import signing
from typer.testing import CliRunner

from mmpipe import bundle
from mmpipe.cli import app
from mmpipe.errors import MmpipeError, NotFoundError, UsageError, VerificationError
from mmpipe.registry import pull


def call(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A repository with three versions, its bare origin, and the storage of both."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "store").mkdir()
    root = published.repository(folder / "work", storage=str(folder / "store"))
    for number in (1, 2, 3):
        published.publish(root, f"v1.{number}.0", number)
    published.assign(root, "prod", 1, "v1.1.0")
    published.assign(root, "prod", 2, "v1.2.0")
    published.run(folder, "git", "clone", "-q", "--bare", "work", "origin.git")
    return folder


@pytest.fixture
def away(tmp_path, monkeypatch):
    """Another place: neither git nor DVC."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "number"),
    [("fusion@v1.1.0", 1), ("fusion@latest", 3), ("fusion#prod", 2), ("fusion#prod#1", 1)],
)
@pytest.mark.parametrize("origin", ["origin.git", "work"])
def test_every_way_to_name_a_version_brings_its_bytes(team, away, spec, number, origin):
    found = pull.pull(spec, source=str(team / origin))
    assert bundle.read(found.folder).files == published.contents(number)
    assert found.fetched and found.origin.version == f"v1.{number}.0"
    assert found.folder == Path(f".mmpipe/models/fusion@v1.{number}.0")
    assert bundle.read(found.folder).origin == found.origin


def test_what_is_here_is_not_brought_again_but_checked_again(team, away):
    source = str(team / "origin.git")
    place = pull.pull("fusion@v1.1.0", source=source).folder
    assert not pull.pull("fusion@v1.1.0", source=source).fetched
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert pull.pull("fusion@v1.1.0", source=source, into=Path("model")).fetched
    assert bundle.read(Path("model")).files == bundle.read(place).files == published.contents(1)


def test_a_folder_is_replaced_whole_and_a_strangers_folder_never(team, away):
    source = str(team / "origin.git")
    for number in (1, 2):
        pull.pull(f"fusion@v1.{number}.0", source=source, into=Path("model"))
        assert bundle.read(Path("model")).origin.version == f"v1.{number}.0"
    (away / "photos").mkdir()
    (away / "photos/cat.jpg").write_text("x")
    with pytest.raises(NotFoundError, match=r"holds 'cat\.jpg'"):
        pull.pull("fusion@latest", source=source, into=Path("photos"))
    assert (away / "photos/cat.jpg").exists()


def test_a_workspace_in_a_subfolder_is_pulled_from_within_and_from_outside(away):
    top = away / "top"
    top.mkdir()
    published.run(top, "git", "init", "-q", "-b", "main")
    published.run(top, "git", "config", "user.name", "Ada")
    published.run(top, "git", "config", "user.email", "ada@example.org")
    work = published.repository(top / "vision", storage=str(away / "store"), within=top)
    published.publish(work, "v1.0.0", 1, prefix="vision=")
    published.run(away, "git", "clone", "-q", "--bare", "top", "origin.git")
    for source in (top, work, away / "origin.git"):
        shutil.rmtree(".mmpipe", ignore_errors=True)
        for spec in ("vision:fusion@v1.0.0", "fusion@latest"):
            assert bundle.read(pull.pull(spec, source=str(source)).folder).files == published.contents(1)


def test_a_folder_is_meant_where_one_is_there(team, away):
    assert pull.resolve_folder("models/fusion") == Path("models/fusion")
    found = pull.resolve_folder("fusion#prod", str(team / "work"))
    assert bundle.read(found).files == published.contents(2)
    (away / "fusion@odd").mkdir()
    assert pull.resolve_folder("fusion@odd") == Path("fusion@odd")


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        ("fusion@v1.4.0", NotFoundError, "v1.3.0"),
        ("fusoin@v1.1.0", NotFoundError, "fusion"),
        ("fusion#production", NotFoundError, "prod"),
        ("fusion", UsageError, "tag-name"),
    ],
)
def test_a_tag_that_is_not_there_is_told_with_the_nearest(team, away, spec, kind, words):
    with pytest.raises(kind, match=words):
        pull.pull(spec, source=str(team / "origin.git"))


@pytest.mark.parametrize("source", ["--upload-pack=touch ran", "ext::touch ran", "none"])
def test_a_source_that_git_would_run_is_refused(away, source):
    with pytest.raises(MmpipeError, match="remote-"):
        pull.pull("fusion@latest", source=source)
    assert not Path("ran").exists()


def test_no_repository_no_storage_no_object_each_have_their_words(team, away):
    with pytest.raises(MmpipeError) as nowhere:
        pull.pull("fusion@latest", source=str(away / "nowhere.git"))
    assert nowhere.value.exit_status in (3, 75)
    shutil.copytree(team, away / "team")
    config = away / "team/work/.dvc/config"
    config.write_text(config.read_text().replace(str(team), str(away / "team")))
    published.run(away / "team/work", "git", "commit", "-qam", "moved")
    published.publish(away / "team/work", "v2.0.0", 4, push=False)
    published.run(away / "team", "git", "clone", "-q", "--bare", "work", "second.git")
    with pytest.raises(NotFoundError, match="object-missing") as missing:
        pull.pull("fusion@v2.0.0", source=str(away / "team/second.git"))
    assert str(away / "team/store") in str(missing.value)
    assert pull.pull("fusion@v2.0.0", source=str(away / "team/work")).fetched  # from its own cache
    bare = published.repository(away / "bare")
    published.publish(bare, "v1.0.0", 5, push=False)
    published.run(away, "git", "clone", "-q", "--bare", "bare", "bare.git")
    with pytest.raises(NotFoundError, match="remote-missing"):
        pull.pull("fusion@v1.0.0", source=str(away / "bare.git"))


def _flips(team: Path, per_object: int) -> dict[str, int]:
    """Flip bits of one model's objects in the storage, one at a time: each pull must refuse it.

    How many were flipped of each.
    """
    source = str(team / "origin.git")
    pull.pull("fusion@v1.2.0", source=source, into=Path("model"))
    flips = {}
    for name, path in published.objects(team / "store", 1).items():
        good = path.read_bytes()
        path.chmod(0o644)
        places = range(0, len(good), max(1, len(good) // per_object))
        for place in places:
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            path.write_bytes(bytes(bad))
            with pytest.raises(MmpipeError, match="object-"):
                pull.pull("fusion@v1.1.0", source=source, into=Path("model"))
        flips[name] = len(places)
        path.write_bytes(good)
    assert bundle.read(Path("model")).origin.version == "v1.2.0"
    pull.pull("fusion@v1.1.0", source=source, into=Path("model"))
    return flips


def test_flipped_bits_of_the_storage_are_seen_and_the_old_model_stays(team, away):
    flips = _flips(team, 12)
    assert len(flips) == 6 and sum(flips.values()) > 50


@pytest.mark.slow
def test_a_thousand_flipped_bits_of_the_storage_are_seen(team, away):
    """Of each byte of all objects but the weights, and of every eighth of these."""
    flips = _flips(team, 400)
    files = published.contents(1)
    sizes = {name: len(data) for name, data in files.items()} | {"manifest.json": len(bundle.seal(files)[0])}
    assert flips == {**sizes, "model.safetensors": 400, ".dir": flips[".dir"]}
    assert flips[".dir"] > 300 and sum(flips.values()) > 1_000


def test_a_tag_that_says_another_bundle_is_refused(team, away):
    work = published.repository(away / "other", storage=str(away / "store"))
    published.publish(work, "v1.0.0", 1)
    fields = {"Bundle-SHA256": "0" * 64, "Data-SHA256": "d" * 64, "Metrics": {"accuracy": 0.5}}
    message = published.messages.write("fusion v1.1.0", fields)
    published.run(work, "git", "commit", "-q", "--allow-empty", "-m", "more")
    published.run(work, "git", "tag", "-a", "fusion@v1.1.0", "-m", message)
    with pytest.raises(VerificationError, match="the tag says 000000000000"):
        pull.pull("fusion@v1.1.0", source=str(work))


def test_over_http_read_only(team, away):
    """A plain web server in front of the storage."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(team / "store"))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        work = published.repository(away / "web", storage=f"http://127.0.0.1:{server.server_port}")
        digest = bundle.write(work / "models/fusion", published.contents(1))
        published.publish(work, "v1.0.0", 1, push=False)
        shutil.rmtree(work / ".dvc/cache")
        found = pull.pull("fusion@v1.0.0", source=str(work))
        server.shutdown()
    assert found.origin.bundle_sha256 == digest
    with pytest.raises(MmpipeError) as gone:
        shutil.rmtree(".mmpipe")
        pull.pull("fusion@v1.0.0", source=str(work))
    assert gone.value.exit_status in (3, 75)


def test_from_and_to_s3(away, monkeypatch):
    """A real server that speaks S3, on loopback."""
    from moto.server import ThreadedMotoServer

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        import boto3

        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="models")
        work = published.repository(away / "work", storage="s3://models/store")
        published.dvc(work, "remote", "modify", "store", "endpointurl", endpoint)
        published.publish(work, "v1.0.0", 7)
        published.run(away, "git", "clone", "-q", "--bare", "work", "origin.git")
        found = pull.pull("fusion@v1.0.0", source=str(away / "origin.git"))
        assert bundle.read(found.folder).files == published.contents(7)
    finally:
        server.stop()
    shutil.rmtree(".mmpipe")
    with pytest.raises(MmpipeError) as gone:
        pull.pull("fusion@v1.0.0", source=str(away / "origin.git"))
    assert gone.value.code == "remote-failed" and gone.value.exit_status == 75


KILLED = """
import sys
from pathlib import Path
from mmpipe.registry import pull
print("ready", flush=True)
pull.pull(sys.argv[1], source=sys.argv[2], into=Path("model"))
"""


def _killed_pulls(team: Path, rounds: int) -> int:
    """Pull versions in turn into one folder, kill each at a random moment; how many were killed in time."""
    source, chance, killed = str(team / "origin.git"), random.Random(0), 0
    pull.pull("fusion@v1.1.0", source=source, into=Path("model"))
    for number in range(rounds):
        before = bundle.read(Path("model")).files
        wanted = 1 + number % 3
        command = [sys.executable, "-c", KILLED, f"fusion@v1.{wanted}.0", source]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.6))
        killed += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = bundle.read(Path("model")).files
        assert after in (before, published.contents(wanted))
        shutil.rmtree(".mmpipe/models", ignore_errors=True)
    pull.pull("fusion@v1.2.0", source=source, into=Path("model"))
    assert bundle.read(Path("model")).files == published.contents(2)
    left = [path.name for path in Path().iterdir() if path.name not in ("model", ".mmpipe")]
    assert left == [], left
    return killed


def test_killed_pulls_leave_the_old_model_or_the_new(team, away):
    assert _killed_pulls(team, 6) >= 1


@pytest.mark.slow
def test_pulls_killed_at_50_moments_leave_the_old_model_or_the_new(team, away):
    assert _killed_pulls(team, 80) >= 50


def _killed_at(team: Path, scratch: Path, step: int) -> int:
    """Kill pulls before each `step`th touch of a file, until one ends; how many were killed."""
    source, work = team / "origin.git", Path.cwd()
    scratch.mkdir()
    pull.pull("fusion@v1.1.0", source=str(source), into=Path("model"))
    old, new, seen = published.contents(1), published.contents(2), []
    with killed.server(scratch) as pulls:
        while pulls("fusion@v1.2.0", source, work, step * len(seen)) != killed.FINISHED:
            seen.append(bundle.read(Path("model")).files)
            assert seen[-1] in (old, new)
            pull.pull("fusion@v1.1.0", source=str(source), into=Path("model"))
            shutil.rmtree(".mmpipe/models/fusion@v1.2.0", ignore_errors=True)
    assert bundle.read(Path("model")).files == bundle.read(Path(".mmpipe/models/fusion@v1.2.0")).files == new
    assert {path.name for path in Path(".mmpipe/models").iterdir()} == {"fusion@v1.1.0", "fusion@v1.2.0"}
    assert {path.name for path in Path().iterdir()} == {"model", ".mmpipe", scratch.name}
    assert old in seen and (step > 1 or new in seen)
    return len(seen)


def test_pulls_killed_at_every_ninth_touch_of_a_file_leave_the_old_model_or_the_new(team, away):
    assert _killed_at(team, away / "scratch", 9) > 5


@pytest.mark.slow
def test_pulls_killed_at_every_touch_of_a_file_leave_the_old_model_or_the_new(team, away):
    assert _killed_at(team, away / "scratch", 1) > 60


def test_signatures_are_demanded_and_checked(away):
    from mmpipe.registry import signature

    keys = {name: signing.keys(away, name) for name in ("team", "thief")}

    work = published.repository(away / "work")
    bundle.write(away / "fusion", published.contents(1))
    signed = signature.signer(keys["team"][0])(away / "fusion")
    published.publish(work, "v1.0.0", 1, push=False, signature=signed)
    published.publish(work, "v1.1.0", 2, push=False)
    published.publish(work, "v1.2.0", 3, push=False, signature=signed)
    found = pull.pull("fusion@v1.0.0", source=str(work), public_key=keys["team"][1])
    assert bundle.read(found.folder).files == published.contents(1)
    shutil.rmtree(".mmpipe")
    for spec, key, code in (
        ("fusion@v1.0.0", "thief", "signature-bad"),
        ("fusion@v1.1.0", "team", "signature-missing"),
        ("fusion@v1.2.0", "team", "signature-bad"),
    ):
        with pytest.raises(VerificationError, match=code):
            pull.pull(spec, source=str(work), public_key=keys[key][1], into=Path("model"))
    assert not Path("model").exists()
    verify = partial(call, "verify", "--from", str(work), "--require-signature", str(keys["team"][1]))
    assert verify("fusion@v1.0.0").stdout == "1 artefacts checked, 0 differ\n"
    for spec, code in (("fusion@v1.1.0", "signature-missing"), ("fusion@v1.2.0", "signature-bad")):
        done = verify(spec)
        assert done.exit_code == 6 and done.stdout.startswith(f"{code} fusion@v1.")
    assert verify("fusion").exit_code == verify(str(away / "fusion")).exit_code == 2


def test_the_commands_tell_what_came_and_what_differs(team, away):
    source = str(team / "origin.git")
    told = call("pull", "fusion#prod", "--from", source, "--into", "model")
    assert told.exit_code == 0 and "fusion@v1.2.0" in told.stdout and "verified" in told.stdout
    found = json.loads(call("pull", "fusion#prod", "--from", source, "--json").stdout)
    assert found["version"] == "v1.2.0" and not found["fetched"]
    assert call("verify", "model").stdout == "4 artefacts checked, 0 differ\n"
    assert json.loads(call("verify", "model", "--json").stdout) == {"checked": 4, "faults": []}
    (away / "model/config.json").write_text("{}")
    bad = call("verify", "model")
    assert bad.exit_code == 6 and "config.json has sha256" in bad.output
    assert call("pull", "fusion@v9.0.0", "--from", source).exit_code == 3


def test_verify_reads_what_the_storage_holds_of_a_version_that_dvc_add_recorded(team, away):
    """There is no dvc.lock: the bundle is all that the commit records."""
    source = str(team / "origin.git")
    assert call("verify", "fusion@v1.1.0", "--from", source).stdout == "1 artefacts checked, 0 differ\n"
    path = published.objects(team / "store", 3)["config.json"]
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"[" + good[1:])
    bad = call("verify", "fusion@v1.3.0", "--from", source)
    path.write_bytes(good)
    assert bad.exit_code == 6 and "models/fusion/config.json has sha256" in bad.output


def test_what_was_added_by_hand_is_verified_here_and_in_the_storage(away):
    from mmpipe.registry import audit

    work = published.repository(away / "work", storage=str(away / "store"))
    (work / "data/raw").mkdir(parents=True)
    (work / "data/raw/a.txt").write_text("one")
    (work / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    published.dvc(work, "add", "-q", "data/raw")
    published.publish(work, "v1.0.0", 1)
    names = {one.name for one in audit.workspace(work) if one.fault is None}
    assert {"data/raw", "models/fusion"} <= names
    assert not [one for one in audit.tag("fusion@v1.0.0", str(work)) if one.fault]
    (work / "data/raw/a.txt").chmod(0o644)
    (work / "data/raw/a.txt").write_text("two")
    assert [one.name for one in audit.workspace(work) if one.fault] == ["data/raw"]
    (work / "data/raw.dvc").write_text("outs: [{path: raw}]\n")
    with pytest.raises(VerificationError, match="records no md5 of raw"):
        audit.workspace(work)
    (work / "data/raw.dvc").write_text("outs: [\n")
    with pytest.raises(VerificationError, match="is no YAML"):
        audit.workspace(work)


def test_no_password_of_a_url_is_shown():
    from mmpipe.registry.remote import public

    assert public("https://u:p@ss@host/x.git") == "https://host/x.git"
    assert public("cannot access 'https://u:p@h/x.git/'") == "cannot access 'https://h/x.git/'"
    assert public("git@host:team/x.git") == "git@host:team/x.git"
