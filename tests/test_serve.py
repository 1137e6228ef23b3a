"""A server on the loopback answers what `load(...).predict` answers, and refuses with a code."""

import base64
import io
import json
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import serving
import soundfile
import tiny_bundle
from media import png, wav
from serving import refused

from mmpipe import paths
from mmpipe.predict import load
from mmpipe.serve.limits import Limits


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return root / paths.BUNDLE, tiny_bundle.write(root)


@pytest.fixture(scope="module")
def server(samples):
    with serving.running(samples[0]) as found:
        yield found


@pytest.fixture(scope="module")
def predictor(samples):
    return load(samples[0], device="cpu")


def said(found):
    """As JSON carries it."""
    return json.loads(json.dumps(vars(found)))


def as_json(sample):
    files = {m: base64.b64encode(sample[m].read_bytes()).decode() for m in sample if m != "text"}
    return {**{f"{m}_base64": data for m, data in files.items()}, "text": sample.get("text")}


def test_the_same_answer_to_the_last_bit(server, samples, predictor):
    for sample in list(samples[1].values())[:10]:
        wanted = said(predictor.predict(**sample))
        multipart, by_json = server.predict(sample), server.client.post("/predict", json=as_json(sample))
        assert multipart.status_code == by_json.status_code == 200
        assert multipart.json() == by_json.json() == wanted


def test_explanations_are_asked_for(server, samples, predictor):
    sample = next(one for one in samples[1].values() if len(one) == 3)
    assert server.predict(sample, explain="true").json() == said(predictor.explain(**sample))
    assert server.predict(sample, explain="false").json() == said(predictor.predict(**sample))
    refused(server.predict(sample, explain="perhaps"), 400, "http-body")


def test_many_clients_get_their_own_answers_in_shared_batches(samples, predictor):
    several = [sample for sample in samples[1].values() for _ in range(4)]
    wanted = [predictor.predict(**sample) for sample in several]
    limits = Limits(workers=2, max_wait_s=0.5, max_batch=16)
    with serving.running(samples[0], limits=limits) as server, ThreadPoolExecutor(16) as pool:
        found = [response.json() for response in pool.map(server.predict, several)]
        batches, counted = server.metric("mmpipe_batch_size_count"), server.metric("mmpipe_batch_size_sum")
    for one, right in zip(found, wanted, strict=True):
        assert one["probabilities"] == pytest.approx(right.probabilities, abs=1e-5)
        assert one["modalities"] == list(right.modalities)
    assert counted == len(several)
    assert batches < len(several) / 3


def test_a_text_of_its_own_is_what_the_model_sees(server, predictor):
    words = "Ünïcödé — 一 and \N{PILE OF POO}\n" * 5
    assert server.predict(text=words.encode()).json() == said(predictor.predict(text=words))
    assert server.client.post("/predict", json={"text": words}).json() == said(predictor.predict(text=words))


def test_blank_text_beside_a_picture_is_no_text(server, samples):
    sample = next(one for one in samples[1].values() if len(one) == 3)
    found = server.predict({"image": sample["image"]}, text=b"  \n").json()
    assert found["modalities"] == ["image"]


def bomb():
    """20,000 × 20,000 px in a few KB."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def not_finite():
    out = io.BytesIO()
    soundfile.write(out, np.full(8000, np.nan, np.float32), 8000, format="WAV", subtype="FLOAT")
    return out.getvalue()


BAD = {
    "image-not": {"image": b"<!doctype html><html></html>"},
    "image-too-large": {"image": bomb()},
    "image-damaged": {"image": png(300, 200, seed=1)[:-500]},
    "image-format": {"image": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"},
    "audio-format": {"audio": b"\x1aE\xdf\xa3webm"},
    "audio-truncated": {"audio": wav(seconds=1, seed=1)[:-2000]},
    "audio-not-finite": {"audio": not_finite()},
    "file-empty": {"image": b"", "text": b"one"},
    "text-encoding": {"text": b"a\xffb"},
    "text-control": {"text": b"a\0b"},
    "text-too-long": {"text": b"x" * 100_001},
    "row-empty": {"text": b" \n"},
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_sample_gets_its_code(server, code):
    what = refused(server.predict(**BAD[code]), 422, code)
    assert "Traceback" not in what
    assert server.predict(text=b"one").status_code == 200


def test_a_good_part_does_not_save_a_bad_one(server, samples):
    sample = next(one for one in samples[1].values() if len(one) == 3)
    parts = {"text": "one", "audio": sample["audio"], "image": b"nonsense"}
    refused(server.predict(parts), 422, "image-not")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/predict", 405, "http-method"),
        ("POST", "/", 405, "http-method"),
        ("GET", "/nope", 404, "http-path"),
        ("GET", "/docs", 404, "http-path"),
        ("GET", "/../etc/passwd", 404, "http-path"),
    ],
)
def test_other_routes(server, method, path, status, code):
    refused(server.client.request(method, path), status, code)


def test_health_names_the_model(server, predictor):
    found = server.client.get("/healthz").json()
    assert found == {
        "status": "ready",
        "task": "classify",
        "model": "fusion",
        "bundle_sha256": predictor.bundle.digest,
        "modalities": ["audio", "image", "text"],
        "turns": None,
    }


def test_health_tells_what_only_a_new_start_mends(samples):
    with serving.running(samples[0]) as server:
        for task in server.service._tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)
        assert serving.until(lambda: server.client.get("/healthz").status_code == 503)
        assert server.client.get("/healthz").json()["status"] == "broken"
        assert refused(server.predict(text=b"one"), 503, "http-busy") == "the server is broken"


def test_metrics_count(server, predictor):
    before = server.metric('mmpipe_refusals_total{code="image-not"}')
    good = server.metric('mmpipe_requests_total{route="/predict",status="200"}')
    server.predict(image=b"x")
    server.predict(text=b"one")
    assert server.metric('mmpipe_refusals_total{code="image-not"}') == before + 1
    assert server.metric('mmpipe_requests_total{route="/predict",status="200"}') == good + 1
    digest = predictor.bundle.digest
    assert server.metric(f'mmpipe_model_info{{bundle_sha256="{digest}",model="fusion"}}') == 1
    assert server.metric("mmpipe_queue_length") == server.metric("mmpipe_requests_under_way") == 0


def test_unknown_paths_are_counted_as_one(server):
    for number in range(5):
        server.client.get(f"/nope{number}")
    assert "nope" not in server.client.get("/metrics").text


def test_the_schema_describes_the_request(server):
    found = server.client.get("/openapi.json").json()
    body = found["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    keys = {"image_base64", "text", "audio_base64", "history"}
    assert set(body["application/json"]["schema"]["properties"]) == keys


def test_whoever_hangs_up_is_forgotten(server):
    text = b'{"text": "one"}'
    head = serving.head("application/json", f"Content-Length: {len(text)}")
    for part in (b"", text[:5], text):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head + part)
    assert serving.until(lambda: server.service.inside == 0)
    assert server.predict(text=b"one").status_code == 200


def test_a_model_of_texts_says_so(tmp_path):
    samples = tiny_bundle.write(tmp_path, modalities=["text"])
    picture = next(sample for sample in samples.values() if len(sample) == 3)["image"].read_bytes()
    with serving.running(tmp_path / paths.BUNDLE) as server:
        what = refused(server.predict(image=picture), 422, "row-empty")
        assert what == "got image, the model takes text"
        assert server.predict(image=picture, text=b"one").json()["modalities"] == ["text"]


def test_garbage_on_the_wire_leaves_the_server_standing(server):
    rng = np.random.default_rng(0)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(rng.bytes(200))
    assert server.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("task", ["answer", "multilabel", "regress", "retrieve", "transcribe"])
def test_every_task_is_served(tmp_path, task):
    samples = tiny_bundle.write(tmp_path, task=task)
    sample = next(one for one in samples.values() if len(one) == 3)
    predictor = load(tmp_path / paths.BUNDLE, device="cpu")
    no_sum = task in ("answer", "retrieve", "transcribe")
    explain = predictor.predict if no_sum else predictor.explain
    with serving.running(tmp_path / paths.BUNDLE) as server:
        assert server.client.get("/healthz").json()["task"] == task
        assert server.predict(sample).json() == said(predictor.predict(**sample))
        assert server.predict(sample, explain="true").json() == said(explain(**sample))
        if task == "transcribe":
            refused(server.predict(text="a low one"), 422, "row-lacks")
