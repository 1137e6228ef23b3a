"""A DVC remote that lost or damaged an object: it is sent again, or nothing is tagged."""

import hashlib
import json
import shutil

import publisher
import pytest

from mmpipe import bundle
from mmpipe.errors import InvalidError, TemporaryError, VerificationError
from mmpipe.registry import data, pull, stored, tagged
from mmpipe.registry.publish import Wishes, publish

FUSION = "models/fusion"
FILES = [f"{FUSION}/{name}" for name in ("config.json", "manifest.json", "metrics.json", "model.safetensors")]
EVERY = [FUSION, *FILES, "data/code.json"]


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """v1.0.0 is published; another model with the same config and metrics is pushed."""
    site = publisher.make(tmp_path_factory.mktemp("once") / "site")
    publish(site.root)
    site.train("second")
    site.dvc("push", "--quiet")
    return site


@pytest.fixture
def site(once, tmp_path):
    return publisher.copy(once, tmp_path / "site")


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def at(folder, oid):
    return folder / "files/md5" / oid[:2] / oid[2:]


def cached(site, place):
    """Where the cache has what lies at a place of the remote."""
    return at(site.root / ".dvc/cache", place.parent.name + place.name)


def objects(site):
    """{path: where its object lies at the remote}, of the model to be published."""
    found = {path: at(site.store, md5((site.root / path).read_bytes())) for path in EVERY if path != FUSION}
    listed = [
        {"md5": md5((site.root / path).read_bytes()), "relpath": path.rpartition("/")[2]} for path in FILES
    ]
    return found | {FUSION: at(site.store, md5(json.dumps(listed, sort_keys=True).encode()) + ".dir")}


def change(place, change):
    """Other bytes in an object, as read-only as DVC leaves it, and trusts it."""
    place.chmod(0o644)
    place.write_bytes(change(place.read_bytes()))
    place.chmod(0o444)


def flipped(data):
    bad = bytearray(data)
    bad[len(bad) // 2] ^= 4
    return bytes(bad)


def model(site):
    return {"path": FUSION, "digest": bundle.read(site.root / FUSION).digest}


def unmade(site):
    assert site.tags() == site.tags(site.origin) == ["fusion@v1.0.0"]


def test_each_object_that_the_remote_lost_is_named_and_sent_again(site):
    assert stored.lacking(site.root) == []
    for path, lost in objects(site).items():
        good = lost.read_bytes()
        lost.unlink()
        assert [(one.path, one.place) for one in stored.lacking(site.root)] == [(path, str(lost))]
        with pytest.raises(InvalidError, match=rf"data-unpushed store does not have {path} \({lost}\) —"):
            data.check_pushed(site.root, "store", **model(site))
        stored.send(site.root, stored.lacking(site.root))
        assert lost.read_bytes() == good
    for lost in objects(site).values():
        lost.unlink()
    assert {one.path for one in stored.lacking(site.root)} == {FUSION, "data/code.json"}
    stored.send(site.root, stored.lacking(site.root))
    assert all(place.is_file() for place in objects(site).values())


def test_a_lost_object_is_sent_before_the_tag_and_the_model_can_be_pulled(site):
    objects(site)[f"{FUSION}/config.json"].unlink()
    with pytest.raises(
        InvalidError, match=r"data-unpushed .*Fix: run `dvc push`, or publish without --no-push"
    ):
        publish(site.root, Wishes(push=False))
    unmade(site)
    assert publish(site.root).tag == "fusion@v1.0.1"
    shutil.rmtree(site.root / ".dvc/cache")
    version = tagged.read(site.origin).resolve("fusion@latest")
    assert pull.fetch(version, str(site.root)).files["model.safetensors"] == b"second"


def test_dvc_alone_misses_a_file_of_a_folder_whose_list_is_there(site):
    """Why each object is asked for: the day that this fails, `dvc push` is enough."""
    site.dvc("push", "--quiet")  # it notes what lies there
    objects(site)[f"{FUSION}/config.json"].unlink()
    site.dvc("push", "--quiet")
    assert json.loads(site.dvc("status", "--cloud", "--json")) == {}
    assert [one.path for one in stored.lacking(site.root)] == [f"{FUSION}/config.json"]


@pytest.mark.parametrize("path", [FUSION, "data/code.json", f"{FUSION}/model.safetensors"])
def test_what_neither_remote_nor_cache_has_is_refused(site, path):
    """`dvc push` itself only warns."""
    lost = objects(site)[path]
    lost.unlink()
    cached(site, lost).unlink()
    with pytest.raises(
        InvalidError, match=rf"store does not have {path} \(\S+\) and neither has the cache here"
    ):
        data.push(site.root, "store", **model(site))


def test_what_only_the_cache_lost_is_no_matter(site):
    for place in objects(site).values():
        cached(site, place).unlink()
    data.push(site.root, "store", **model(site))


def test_each_flipped_bit_of_the_bundle_at_the_remote_is_found(site):
    places = {path: place for path, place in objects(site).items() if path.startswith(FUSION)}
    for place in places.values():
        good = place.read_bytes()
        for bad in (flipped(good), good + b"!", good[:-1], b""):
            change(place, lambda _, bad=bad: bad)
            with pytest.raises(VerificationError, match=rf"object-damaged {place} .* — Fix: delete it there"):
                data.check_pushed(site.root, "store", **model(site))
            assert place.read_bytes() == bad  # it is not ours to delete
        change(place, lambda _, good=good: good)
    data.check_pushed(site.root, "store", **model(site))
    assert len(places) == 5


def test_nothing_is_tagged_until_a_damaged_object_is_deleted(site):
    place = objects(site)[f"{FUSION}/metrics.json"]
    good = place.read_bytes()
    change(place, flipped)
    for push in (True, False):
        with pytest.raises(
            VerificationError, match=rf"object-damaged {place} has sha256 .* nothing was tagged"
        ):
            publish(site.root, Wishes(push=push))
    unmade(site)
    place.unlink()
    assert publish(site.root).made
    assert place.read_bytes() == good


def test_a_bad_file_of_the_cache_is_not_sent(site):
    place = objects(site)[f"{FUSION}/model.safetensors"]
    place.unlink()
    change(cached(site, place), flipped)
    with pytest.raises(
        InvalidError, match=r"data-unpushed store does not have models/fusion/model\.safetensors"
    ):
        data.push(site.root, "store", **model(site))
    assert not place.exists()


def test_another_bundle_than_the_candidate_is_found(site):
    with pytest.raises(VerificationError, match=r"object-damaged .* here is dddddddddddd"):
        stored.check_bundle(site.root, FUSION, "d" * 64)


def test_a_bundle_that_is_never_pushed_is_refused_and_one_in_git_is_not(site):
    pipeline = site.root / "dvc.yaml"
    text = pipeline.read_text()
    pipeline.write_text(text.replace("outs: [models/fusion]", "outs: [models/fusion: {push: false}]"))
    with pytest.raises(
        InvalidError, match=r"data-unpushed models/fusion is never pushed .*Fix: take `push: false`"
    ):
        data.check_pushed(site.root, "store", **model(site))
    pipeline.write_text(text.replace("outs: [models/fusion]", "outs: [models/fusion: {cache: false}]"))
    for path, place in objects(site).items():
        if path.startswith(FUSION):
            place.unlink()
    data.check_pushed(site.root, "store", **model(site))


def test_a_bundle_that_only_an_old_lock_file_knows_is_refused(site):
    pipeline = site.root / "dvc.yaml"
    text = pipeline.read_text()
    pipeline.write_text(text[: text.index("  bundle:")])
    site.commit("no stage makes it")
    with pytest.raises(InvalidError, match=r"pipeline-stale models/fusion is in dvc\.lock, and no stage"):
        publish(site.root)
    unmade(site)


def test_a_remote_that_cannot_be_read_is_no_answer(site):
    place = objects(site)[f"{FUSION}/model.safetensors"]
    place.unlink()
    place.mkdir()  # it seems to be there
    with pytest.raises(TemporaryError, match=r"remote-failed .* nothing was tagged"):
        data.check_pushed(site.root, "store", **model(site))


def test_s3_that_lost_or_damaged_an_object(site, monkeypatch):
    """A real server that speaks S3, on loopback."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # else it is asked for many seconds
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="models")
        config = site.root / ".dvc/config"
        config.write_text(
            config.read_text().replace(
                "url = ../../store", f"url = s3://models\n    endpointurl = {endpoint}"
            )
        )
        assert {one.path for one in stored.lacking(site.root)} == {FUSION, "data/code.json"}
        data.push(site.root, "store", **model(site))
        for path in (FUSION, f"{FUSION}/config.json"):
            key = objects(site)[path].relative_to(site.store).as_posix()
            good = client.get_object(Bucket="models", Key=key)["Body"].read()
            client.delete_object(Bucket="models", Key=key)
            with pytest.raises(InvalidError, match=rf"does not have {path} \(s3://models/{key}\)"):
                data.check_pushed(site.root, "store", **model(site))
            stored.send(site.root, stored.lacking(site.root))
            assert client.get_object(Bucket="models", Key=key)["Body"].read() == good
            client.put_object(Bucket="models", Key=key, Body=flipped(good))
            with pytest.raises(VerificationError, match=rf"object-damaged s3://models/{key}"):
                data.check_pushed(site.root, "store", **model(site))
            client.put_object(Bucket="models", Key=key, Body=good)
        data.check_pushed(site.root, "store", **model(site))
    finally:
        server.stop()
    with pytest.raises(TemporaryError, match="remote-failed"):
        stored.lacking(site.root)
