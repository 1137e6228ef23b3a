"""Who may ask: host names, tokens, pages of other sites."""

import base64

import pytest
import serving
import tiny_bundle
from serving import refused

from mmpipe import paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(root)
    return root / paths.BUNDLE


@pytest.fixture(scope="module")
def server(folder):
    with serving.running(folder) as found:
        yield found


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_another_host_name_is_refused(server, host):
    """A page of a stranger whose name was pointed at this machine (DNS rebinding)."""
    refused(server.client.get("/healthz", headers={"host": host}), 421, "http-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:80"])
def test_names_of_this_machine_are_taken(server, host):
    assert server.client.get("/healthz", headers={"host": host}).status_code == 200


def test_a_page_of_another_site_may_not_ask(server):
    files = {"text": (None, "one")}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        response = server.client.post("/predict", files=files, headers={"sec-fetch-site": site})
        assert response.status_code == status


TOKEN = "correct-horse-battery"


def test_a_token_closes_all_but_health(folder):
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    with serving.running(folder, token=TOKEN.encode()) as server:
        for path in ("/", "/metrics", "/openapi.json", "/nope"):
            response = server.client.get(path)
            refused(response, 401, "http-token")
            assert "Bearer" in response.headers["www-authenticate"]
        refused(server.predict(text=b"one"), 401, "http-token")
        for wrong in ("", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Digest {TOKEN}", "Basic !", "Bearer é"):
            response = server.client.get("/metrics", headers={"authorization": wrong.encode("latin-1")})
            refused(response, 401, "http-token")
        for right in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert server.client.get("/metrics", headers={"authorization": right}).status_code == 200
        assert TOKEN not in server.client.get("/healthz").text


def test_answers_tell_browsers_to_be_careful(server):
    for response in (server.client.get("/healthz"), server.client.get("/nope"), server.predict(text=b"one")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in response.headers
        assert "server" not in response.headers
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    assert server.client.options("/predict", headers=preflight).status_code == 405
