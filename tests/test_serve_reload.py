"""A model that moves takes over without a lost request; one that cannot be loaded changes nothing."""

import json
import shutil
import threading

import pytest
import serving
import tiny_bundle

from mmpipe import paths
from mmpipe.predict import load
from mmpipe.serve.limits import Limits

KINDS = (["audio", "image", "text"], ["text"], ["image", "text"])


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Three bundles that take other modalities, and a sample that each can answer."""
    root = tmp_path_factory.mktemp("several")
    for number, modalities in enumerate(KINDS):
        samples = tiny_bundle.write(root / str(number), modalities=modalities)
    sample = next(one for one in samples.values() if len(one) == 3)
    return [root / str(number) / paths.BUNDLE for number in range(len(KINDS))], sample


def ask_until(server, sample, stop, found):
    while not stop.is_set():
        response = server.predict(sample)
        found.append((response.status_code, response.json()))


def test_no_request_is_lost_or_mixed_up_while_the_model_moves(several):
    folders, sample = several
    wanted = {}
    for folder in folders:
        predictor = load(folder, device="cpu")
        wanted[predictor.bundle.digest] = predictor.predict(**sample).probabilities
    stop, found = threading.Event(), []
    with serving.running(folders[0], limits=Limits(workers=2, poll_s=0.01)) as server:
        clients = [threading.Thread(target=ask_until, args=(server, sample, stop, found)) for _ in range(4)]
        for client in clients:
            client.start()
        for move in range(1, 7):
            server.folder = folders[move % 3]
            digest = list(wanted)[move % 3]
            assert serving.until(lambda d=digest: found and found[-1][1].get("bundle_sha256") == d)
        stop.set()
        for client in clients:
            client.join()
        moves = server.metric('mmpipe_reloads_total{result="ok"}')
    assert moves == 6
    assert len(found) > 20
    assert {status for status, _ in found} == {200}
    for _, answer in found:
        assert answer["probabilities"] == pytest.approx(wanted[answer["bundle_sha256"]], abs=1e-5)


def replace(place, source):
    """As a pull does: a new folder by a rename, the old one aside."""
    fresh, aside = place.with_name("fresh"), place.with_name("aside")
    shutil.copytree(source, fresh)
    place.rename(aside)
    fresh.rename(place)
    shutil.rmtree(aside)


def test_a_folder_that_is_replaced_is_loaded_anew(several, tmp_path):
    folders, sample = several
    place = tmp_path / "fusion"
    shutil.copytree(folders[0], place)
    with serving.running(place) as server:
        before = server.client.get("/healthz").json()
        replace(place, folders[1])
        old = before["bundle_sha256"]
        assert serving.until(lambda: server.predict(sample).json()["bundle_sha256"] != old)
        now = server.client.get("/healthz").json()
        assert now["modalities"] == ["text"] and now["model"] == "fusion"
        assert now["bundle_sha256"] == json.loads((place / "manifest.json").read_text())["bundle_sha256"]
        counted = server.client.get("/metrics").text
        assert f'bundle_sha256="{now["bundle_sha256"]}",model="fusion"}} 1.0' in counted
        assert old not in counted


def test_a_tag_that_moves_is_told_also_where_the_bytes_are_the_same(several, tmp_path):
    folders, sample = several
    for name in ("fusion@v1.0.0", "fusion@v1.0.1"):
        shutil.copytree(folders[0], tmp_path / name)
    with serving.running(tmp_path / "fusion@v1.0.0") as server:
        assert server.predict(sample).json()["model"] == "fusion@v1.0.0"
        server.folder = tmp_path / "fusion@v1.0.1"
        assert serving.until(lambda: server.predict(sample).json()["model"] == "fusion@v1.0.1")


def test_a_broken_model_leaves_the_old_one_and_is_reported(several, tmp_path):
    folders, sample = several
    place = tmp_path / "fusion"
    shutil.copytree(folders[0], place)
    with serving.running(place) as server:
        before = server.predict(sample).json()
        weights = folders[1] / "model.safetensors"
        damaged = tmp_path / "damaged"
        shutil.copytree(folders[1], damaged)
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        (damaged / "model.safetensors").write_bytes(data)
        replace(place, damaged)
        assert serving.until(lambda: "reload" in server.client.get("/healthz").json())
        health = server.client.get("/healthz")
        assert health.status_code == 200
        assert health.json()["reload"]["code"] == "bundle-damaged"
        assert "model.safetensors" in health.json()["reload"]["what"]
        assert health.json()["bundle_sha256"] == before["bundle_sha256"]
        assert server.predict(sample).json() == before
        assert server.metric('mmpipe_reloads_total{result="failed"}') >= 1
        shutil.rmtree(place)
        assert serving.until(
            lambda: server.client.get("/healthz").json()["reload"]["code"] == "bundle-missing"
        )
        assert server.predict(sample).json() == before
        shutil.copytree(folders[1], place)
        assert serving.until(lambda: "reload" not in server.client.get("/healthz").json())
        assert server.predict(sample).json()["modalities"] == ["text"]


def test_a_model_that_contradicts_itself_does_not_take_over(several, tmp_path):
    """Its hashes are right, its shapes are not."""
    from mmpipe.model.checkpoint import load_bundle, save_bundle

    folders, sample = several
    bundle = load_bundle(folders[2])
    config = {key: value for key, value in bundle.config.items() if key not in ("format", "architecture")}
    config["features"] = {**config["features"], "image": {"dtype": "uint8", "shape": [-1, 7]}}
    save_bundle(
        tmp_path / "odd",
        bundle.model,
        config=config,
        architecture=bundle.config["architecture"],
        metrics={},
        tokenizer=bundle.tokenizer,
    )
    with serving.running(folders[0]) as server:
        before = server.predict(sample).json()
        server.folder = tmp_path / "odd"
        assert serving.until(lambda: "reload" in server.client.get("/healthz").json())
        assert server.client.get("/healthz").json()["reload"]["code"] == "bundle-damaged"
        assert server.predict(sample).json() == before
