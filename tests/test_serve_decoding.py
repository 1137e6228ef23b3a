"""Processes that decode uploads: a death or a hang costs one request."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import serving
import tiny_bundle
from media import png, wav
from serving import refused
from tiny_bundle import SETTINGS

from mmpipe import paths
from mmpipe.errors import SampleError
from mmpipe.features import audio, image
from mmpipe.media.image import encode
from mmpipe.serve import decoder
from mmpipe.serve.decoding import Decoders

GIB = 1 << 30


@pytest.fixture
def pool():
    lost = []
    found = Decoders(2, timeout_s=20, memory_bytes=GIB, lost=lost.append)
    found.lost = lost
    yield found
    found.close()
    assert found.pids == []


def test_features_are_the_extractors_own(pool):
    files = {"image": png(40, 30, seed=1), "audio": wav(seconds=1, seed=2)}
    found = pool.extract(files, SETTINGS).result(20)
    assert np.array_equal(found["image"], image.extract(files["image"], **SETTINGS["image"]))
    assert np.array_equal(found["audio"], audio.extract(files["audio"], **SETTINGS["audio"]))
    assert [found[m].dtype for m in files] == [np.uint8, np.float16]
    assert pool.extract({"image": files["image"]}, SETTINGS).result(20).keys() == {"image"}


def test_what_is_wrong_with_a_file_is_told(pool):
    with pytest.raises(SampleError, match="image-not"):
        pool.extract({"image": b"<html>", "audio": wav(seconds=1, seed=2)}, SETTINGS).result(20)
    assert pool.lost == []


def busy(pool):
    """The pid of a process that was stopped, so that what it is given next stays with it."""
    for pid in pool.pids:
        os.kill(pid, signal.SIGSTOP)
    return pool.pids


def wait_until_given(pool):
    """All of its processes have something to decode."""
    assert serving.until(lambda: not pool._idle)
    time.sleep(0.1)


def test_a_death_while_decoding_costs_one_request(pool):
    good = {"image": png(40, 30, seed=1)}
    first, second = busy(pool)
    requests = [pool.extract(good, SETTINGS) for _ in range(6)]
    wait_until_given(pool)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGCONT)
    outcomes = [request.exception(20) for request in requests]
    assert [error.code for error in outcomes if error] == ["worker-died"]
    assert "SIGKILL" in next(error.what for error in outcomes if error)
    assert pool.lost == ["worker-died"]
    assert pool.extract(good, SETTINGS).result(20)
    assert first not in pool.pids


def test_a_hang_is_ended_and_costs_one_request():
    pool = Decoders(1, timeout_s=0.3, memory_bytes=GIB)
    good = {"image": png(40, 30, seed=1)}
    [stuck] = busy(pool)
    with pytest.raises(SampleError, match=r"worker-timeout took longer than 0\.3 s"):
        pool.extract(good, SETTINGS).result(20)
    assert pool.extract(good, SETTINGS).result(20)
    assert stuck not in pool.pids
    pool.close()


def test_a_large_upload_to_a_process_that_hangs_is_ended_too():
    """It does not even take what it is sent."""
    pool = Decoders(1, timeout_s=0.3, memory_bytes=GIB)
    busy(pool)
    with pytest.raises(SampleError, match="worker-timeout"):
        pool.extract({"image": bytes(20_000_000)}, SETTINGS).result(20)
    pool.close()


def test_a_process_that_died_idle_costs_nothing(pool):
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert serving.until(lambda: not any(alive(pid) for pid in pool.pids))
    assert pool.extract({"image": png(40, 30, seed=1)}, SETTINGS).result(20)


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_memory_has_a_budget():
    """Within the pixel budget, but 2,048 MB of it would be the machine's."""
    pool = Decoders(1, timeout_s=20, memory_bytes=300 << 20)
    large = encode(np.zeros((6000, 8000, 3), np.uint8), ".png")
    error = pool.extract({"image": large}, SETTINGS).exception(20)
    assert error.code in ("image-damaged", "worker-died")
    assert pool.extract({"image": png(40, 30, seed=1)}, SETTINGS).result(20)
    pool.close()


def test_what_was_given_up_is_not_decoded():
    pool = Decoders(1, timeout_s=20, memory_bytes=GIB)
    good = {"image": png(40, 30, seed=1)}
    [only] = busy(pool)
    first, second, third = (pool.extract(good, SETTINGS) for _ in range(3))
    assert second.cancel()
    os.kill(only, signal.SIGCONT)
    assert first.result(20) and third.result(20)
    pool.close()


def test_closing_leaves_no_process():
    pool = Decoders(2, timeout_s=20, memory_bytes=GIB)
    pids = busy(pool)
    waiting = [pool.extract({"image": png(40, 30, seed=1)}, SETTINGS) for _ in range(4)]
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 10
    assert all(request.cancelled() or request.exception() for request in waiting)
    assert serving.until(lambda: not any(alive(pid) for pid in pids))


def test_processes_end_with_a_server_that_is_killed():
    code = """
import os, signal
from mmpipe.serve.decoding import Decoders
print(Decoders(1, timeout_s=20, memory_bytes=1 << 30).pids[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert serving.until(lambda: not alive(int(done.stdout)))


def pair():
    one, other = socket.socketpair()
    one.settimeout(0.2)
    return one, other


def test_messages_survive_the_way():
    one, other = pair()
    with one, other:
        decoder.send(one, {"a": [1, "é"]}, [b"x" * 1000, b"", b"yz"])
        assert decoder.receive(other) == ({"a": [1, "é"], "sizes": [1000, 0, 2]}, [b"x" * 1000, b"", b"yz"])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (struct.pack("!IQ", 5, 1 << 60), ValueError),
        (struct.pack("!IQ", 2, 0) + b"{}", KeyError),
        (struct.pack("!IQ", 2, 0) + b"{x", ValueError),
        (struct.pack("!IQ", 2, 0) + b"{", TimeoutError),
        (b"", TimeoutError),
    ],
)
def test_nonsense_is_not_believed(data, error):
    one, other = pair()
    with one, other:
        other.sendall(data)
        with pytest.raises(error):
            decoder.receive(one, time.monotonic() + 0.2)


def test_a_closed_channel_is_an_end():
    one, other = pair()
    other.close()
    with one, pytest.raises(ConnectionError):
        decoder.receive(one)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(root)
    return root / paths.BUNDLE


def test_of_a_whole_server_one_request_is_lost(folder):
    good = png(40, 30, seed=1)
    with serving.running(folder) as server, ThreadPoolExecutor(6) as clients:
        first, second = busy(server.service.decoders)
        answers = [clients.submit(server.predict, image=good) for _ in range(6)]
        wait_until_given(server.service.decoders)
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGCONT)
        found = [answer.result() for answer in answers]
        assert sorted(response.status_code for response in found) == [200] * 5 + [422]
        refused(next(one for one in found if one.status_code == 422), 422, "worker-died")
        assert server.metric('mmpipe_decoders_lost_total{code="worker-died"}') == 1
        assert server.client.get("/healthz").status_code == 200
