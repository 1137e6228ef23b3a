"""Bodies that are no request, too large, too slow, or never end: each gets its code, nothing else suffers."""

import base64
import gc
import socket
import time
import types

import pytest
import serving
import tiny_bundle
from serving import FORM, refused, send

from mmpipe import paths
from mmpipe.serve.limits import Limits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(root)
    return root / paths.BUNDLE


@pytest.fixture(scope="module")
def server(folder):
    with serving.running(folder) as found:
        yield found


def test_what_a_browser_sends_for_no_file_is_nothing(server):
    body = (
        b'--xx\r\nContent-Disposition: form-data; name="image"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n"
        b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\none\r\n--xx--\r\n'
    )
    assert send(server, body, FORM).json()["modalities"] == ["text"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", FORM, 400, "ends early"),
        (b"hello", FORM, 400, "is no multipart"),
        (b"x", "multipart/form-data", 400, "without a boundary"),
        (b"x", f"multipart/form-data; boundary={'x' * 300}", 400, "Boundary length"),
        (b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\none', FORM, 400, "ends early"),
        (b'--xx\r\nContent-Disposition: form-data; name="txt"\r\n\r\n', FORM, 400, "named 'txt'"),
        (b"--xx\r\n" + b"A" * 100_000, FORM, 400, "is no multipart"),
        (
            b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n' * 2 + b"--xx--",
            FORM,
            400,
            "two parts named 'text'",
        ),
        (b"", "application/json", 400, "the end"),
        (b"[" * 200_000, "application/json", 400, "'['"),
        (b'{"text":' * 200_000, "application/json", 400, "'{' at character 8"),
        (b'{"text": NaN}', "application/json", 400, "'N'"),
        (b'{"text": 1e999}', "application/json", 400, "'1'"),
        (b'{"text": "a", "text": "b"}', "application/json", 400, "two parts named 'text'"),
        (b'{"txt": "a"}', "application/json", 400, "named 'txt'"),
        (b'{"text": "a"} x', "application/json", 400, "goes on"),
        (b'{"text": "a', "application/json", 400, "Unterminated"),
        (b'{"text": "\xff"}', "application/json", 400, "no UTF-8"),
        (b'{"image_base64": "!!!"}', "application/json", 400, "no base64"),
        (b"text=one", "application/x-www-form-urlencoded", 415, "urlencoded"),
        (b"one", "text/plain", 415, "text/plain"),
    ],
)
def test_a_body_that_is_no_request(server, body, kind, status, words):
    assert words in refused(send(server, body, kind), status, "http-body" if status == 400 else "http-media")
    assert server.predict(text=b"one").status_code == 200


def test_a_lone_surrogate_in_json(server):
    refused(send(server, rb'{"text": "\ud800"}', "application/json"), 422, "text-encoding")


@pytest.fixture(scope="module")
def strict(folder):
    limits = Limits(
        workers=1,
        max_file_bytes=100_000,
        max_text_bytes=1000,
        upload_s=0.5,
        head_s=0.5,
        max_held_bytes=250_000,
    )
    with serving.running(folder, limits=limits) as found:
        yield found


@pytest.mark.parametrize(
    "body",
    [
        {"files": {"image": b"x" * 100_001}},
        {"files": {"text": b"x" * 1001}},
        {"files": {"image": b"x" * 10_000_000}},
        {"json": {"image_base64": base64.b64encode(b"x" * 100_001).decode()}},
        {"json": {"text": "x" * 1001}},
        {"json": {"image_base64": "A" * 10_000_000}},
    ],
)
def test_what_is_too_large_is_cut_off(strict, body):
    refused(strict.client.post("/predict", **body), 413, "http-too-large")
    assert strict.service._held == 0


def test_an_endless_upload_is_refused_at_once_and_then_ended(strict):
    """The client hears the answer while it sends, and is cut off where it goes on and on."""
    head = serving.head(FORM, "Transfer-Encoding: chunked")
    part = b'--xx\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"x" * 99_000
    with socket.create_connection(("127.0.0.1", strict.port)) as raw:
        raw.settimeout(10)
        raw.sendall(head + b"%x\r\n%s\r\n" % (len(part), part))
        raw.sendall(b"4000\r\n%s\r\n" % (b"x" * 0x4000))
        assert raw.recv(12) == b"HTTP/1.1 413"
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                time.sleep(0.01)
                raw.sendall(b"4000\r\n%s\r\n" % (b"x" * 0x4000))


def slowly():
    yield b"--xx\r\n"
    for _ in range(100):
        time.sleep(0.05)
        yield b"A"


def test_a_slow_upload_is_ended(strict):
    began = time.monotonic()
    assert "more were to follow" in refused(send(strict, slowly(), FORM), 408, "http-slow")
    assert time.monotonic() - began < 4


def test_a_slow_head_is_ended(strict):
    with socket.create_connection(("127.0.0.1", strict.port)) as raw:
        raw.settimeout(10)
        began = time.monotonic()
        raw.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                time.sleep(0.05)
                raw.sendall(b"X: y\r\n")
        assert time.monotonic() - began < 4


def test_a_connection_that_says_nothing_is_ended(strict):
    with socket.create_connection(("127.0.0.1", strict.port)) as raw:
        raw.settimeout(10)
        assert raw.recv(1) == b""


def test_held_uploads_have_a_budget_together(folder):
    """Three that stop in the middle of a picture hold what a fourth then wants."""
    head = serving.head(FORM, "Content-Length: 99000")
    part = b'--xx\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"x" * 80_000
    with serving.running(folder, limits=Limits(workers=1, max_held_bytes=250_000)) as server:
        several = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for raw in several:
            raw.sendall(head + part)
        assert serving.until(lambda: server.service._held > 240_000)
        response = server.predict(image=b"x" * 90_000)
        refused(response, 503, "http-busy")
        assert response.headers["retry-after"] == "1"
        for raw in several:
            raw.close()
        assert serving.until(lambda: server.service._held == 0)
        refused(server.predict(image=b"x" * 90_000), 422, "image-not")


def test_places_are_bounded(folder):
    limits = Limits(workers=1, max_requests=2, upload_s=20)
    head = serving.head("application/json", "Content-Length: 9")
    with serving.running(folder, limits=limits) as server:
        several = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for raw in several:
            raw.sendall(head)
        assert serving.until(lambda: server.service.inside == 2)
        refused(server.predict(text=b"one"), 503, "http-busy")
        assert server.client.get("/healthz").status_code == 200
        for raw in several:
            raw.close()
        assert serving.until(lambda: server.service.inside == 0)
        assert server.predict(text=b"one").status_code == 200


def test_a_request_has_its_time(folder):
    with serving.running(folder, limits=Limits(workers=1, request_s=1, max_wait_s=60)) as server:
        server.service.inside = 5  # as if others were on their way: the batch waits for them
        refused(server.predict(text=b"one"), 504, "http-late")
        server.service.inside = 0
        assert server.predict(text=b"one").status_code == 200


def test_what_is_too_large_is_refused_before_it_is_sent(strict):
    """curl sends `Expect: 100-continue` and waits."""
    head = serving.head(FORM, "Expect: 100-continue", "Content-Length: 99999999")
    with socket.create_connection(("127.0.0.1", strict.port)) as raw:
        raw.settimeout(10)
        raw.sendall(head)
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_refused_upload_is_forgotten_at_once(folder):
    """And not when Python next looks for objects that hold one another: no frame of ours is among those."""
    several = [
        {"files": {"image": b"x" * 80_001}},
        {"files": {"image": b"x" * 80_000}},
        {"files": {"image": b"x", "txt": b"x"}},
        {"files": {"text": b"a\0b"}},
        {"json": {"image_base64": "!"}},
        {"json": {"text": "a", "history": [1]}},
        {"json": {"text": "a", "history": "[1]"}},
        {"content": b"x", "headers": {"content-type": FORM}},
    ]
    with serving.running(folder, limits=Limits(workers=1, max_file_bytes=80_000)) as server:
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for body in several:
                assert server.client.post("/predict", **body).status_code in (400, 413, 422)
            assert serving.until(lambda: server.service.inside == 0)
            gc.collect()
            frames = [one for one in gc.garbage if isinstance(one, types.FrameType)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert [one.f_code.co_qualname for one in frames if "mmpipe" in one.f_code.co_filename] == []
