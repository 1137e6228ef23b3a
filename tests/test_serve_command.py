"""`mmpipe serve` as a process: what it prints, whom it lets in, how it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import serving
import tiny_bundle
from media import png
from typer.testing import CliRunner

from mmpipe.cli import app
from mmpipe.errors import UsageError
from mmpipe.serve.server import check_token, is_loopback, listen, url_of

RUN = [sys.executable, "-c", "from mmpipe.cli import run; run()"]
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    found = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(found)
    return found


@pytest.fixture
def start(root):
    """Start the command in the workspace; its process and its URL."""
    started = []

    def begin(*arguments, **environment):
        process = subprocess.Popen(
            [*RUN, "serve", "--port", "0", "--workers", "1", *arguments],
            cwd=root,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def children(pid):
    """Every process below one, however deep."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(entry.name), *children(int(entry.name))]
    return found


def get(url, path="", **options):
    return httpx.get(url + path, timeout=30, trust_env=False, **options)


def test_it_prints_one_url_and_answers_there(start):
    process, url = start()
    assert url.startswith("http://127.0.0.1:") and url.endswith("/")
    assert get(url, "healthz").json()["model"] == "fusion"
    files = {"image": png(40, 30, seed=1), "text": (None, "one")}
    found = httpx.post(url + "predict", files=files, timeout=30, trust_env=False).json()
    assert found["modalities"] == ["image", "text"]
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert out == ""
    assert err == "terminated; the same command goes on from here\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_it_finish_what_is_under_way(start, number, status):
    process, url = start()
    body = b'{"text": "one"}'
    port = httpx.URL(url).port
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(30)
        raw.sendall(serving.head("application/json", f"Content-Length: {len(body)}") + body[:5])
        assert serving.until(lambda: "under_way 1.0" in get(url, "metrics").text)
        below = children(process.pid)
        assert below
        process.send_signal(number)
        assert serving.until(lambda: refuses(port))
        raw.sendall(body[5:])
        answer = b""
        while more := raw.recv(65_536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"label"' in answer
    assert process.wait(30) == status
    assert "Traceback" not in process.stderr.read()
    assert serving.until(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()])


def refuses(port):
    """Nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_client_that_never_ends_does_not_hold_it(start):
    process, url = start()
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as raw:
        raw.settimeout(30)
        raw.sendall(serving.head("application/json", "Content-Length: 99") + b"{")
        assert serving.until(lambda: "under_way 1.0" in get(url, "metrics").text)
        process.terminate()
        assert raw.recv(100).startswith(b"HTTP/1.1 503 ")
    assert process.wait(15) == 143
    assert "Traceback" not in process.stderr.read()


def test_a_token_from_a_file_or_the_environment(start, root):
    (root / "token.txt").write_text(f"{TOKEN}\n")
    for process, url in (start("--token-file", "token.txt"), start(MMPIPE_TOKEN=TOKEN)):
        assert get(url, "healthz").status_code == 200
        assert get(url, "metrics").status_code == 401
        assert get(url, "metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        process.terminate()
        assert TOKEN not in "".join(process.communicate(timeout=30))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--host", "0.0.0.0"], 2, "others can reach 0.0.0.0, so a token is needed"),
        (["--host", "::"], 2, "a token is needed"),
        (["--host", "example.org"], 2, "a token is needed"),
        (["--token-file", "nowhere"], 2, "'nowhere' does not exist"),
        (["--token-file", "short"], 2, "the token has 5 characters"),
        (["--token-file", "empty"], 2, "--token-file: empty"),
        (["--port", "70000"], 2, "Invalid value for '--port'"),
        (["--workers", "0"], 2, "Invalid value for '--workers'"),
        (["--model", "nowhere", "--port", "0"], 3, "bundle-missing nowhere"),
        (["--host", "203.0.113.7", "--token-file", "good"], 1, "cannot listen there"),
    ],
)
def test_what_it_refuses(tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMPIPE_TOKEN", raising=False)
    for name, text in (("short", "abcde"), ("empty", ""), ("good", TOKEN)):
        (tmp_path / name).write_text(text)
    done = CliRunner().invoke(app, ["serve", *arguments], catch_exceptions=False)
    assert (done.exit_code, words in done.stderr) == (status, True), done.output
    assert "Traceback" not in done.output and TOKEN not in done.output


def test_a_port_that_is_taken(root, monkeypatch):
    monkeypatch.chdir(root)
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        done = CliRunner().invoke(app, ["serve", "--port", str(port)], catch_exceptions=False)
    assert done.exit_code == 1
    assert f"system 127.0.0.1:{port} cannot listen there" in done.stderr
    assert "give another --host or --port" in done.stderr


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
def test_without_its_extra_it_says_what_to_install(tmp_path, name):
    code = f"import sys; sys.modules[{name!r}] = None; from mmpipe.cli import run; run()"
    done = subprocess.run([sys.executable, "-c", code, "serve"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"library-missing {name} is not installed — stopped — Fix: pip install 'mmpipe[serve]'\n"
    )


def test_what_is_this_machine_and_what_is_not():
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "localhost"]))
    assert not any(
        map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "", "localhost.evil.example", "example.org"])
    )
    check_token("127.0.0.1", None)
    check_token("0.0.0.0", TOKEN.encode())
    with pytest.raises(UsageError):
        check_token("127.0.0.1", b"short")


def test_answers_are_not_held_back_for_an_acknowledgement():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_it_listens_on_ipv6_too():
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}/"
