"""A headless Chromium, driven through chromedriver's WebDriver protocol (W3C) over plain HTTP."""

import base64
import contextlib
import re
import shutil
import subprocess

import httpx

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
QUIET = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--proxy-server=direct://",
]


class Browser:
    """One window."""

    def __init__(self, client, session):
        self._client = client
        self._path = f"/session/{session}"

    def do(self, method, path, **body):
        """One command of the protocol."""
        content = None if method == "GET" else body
        response = self._client.request(method, f"{self._path}/{path}", json=content)
        value = response.json()["value"]
        assert response.status_code == 200, value
        return value

    def open(self, url):
        self.do("POST", "url", url=url)

    def run(self, script, *arguments):
        """The value of a JavaScript function's body."""
        return self.do("POST", "execute/sync", script=script, args=list(arguments))

    def find(self, css):
        return self.do("POST", "element", using="css selector", value=css)[ELEMENT]

    def text(self, css):
        return self.do("GET", f"element/{self.find(css)}/text")

    def click(self, css):
        self.do("POST", f"element/{self.find(css)}/click")

    def type(self, css, words):
        self.do("POST", f"element/{self.find(css)}/value", text=words)

    def keys(self, *pressed):
        """Press and release, one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in pressed for kind in ("keyDown", "keyUp")]
        self.do("POST", "actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def shown(self, css):
        return self.do("GET", f"element/{self.find(css)}/displayed")

    def size(self, width, height):
        self.do("POST", "window/rect", width=width, height=height)

    def console(self):
        """What went wrong on the page since the last look."""
        lines = self._client.post(f"{self._path}/se/log", json={"type": "browser"}).json()["value"]
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def dark(self, on):
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        parameters = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self.do("POST", "goog/cdp/execute", **parameters)

    def picture(self, path):
        """A screenshot of the whole page."""
        parameters = {"cmd": "Page.captureScreenshot", "params": {"captureBeyondViewport": True}}
        path.write_bytes(base64.b64decode(self.do("POST", "goog/cdp/execute", **parameters)["data"]))


@contextlib.contextmanager
def chromium(profile):
    """A browser with a profile of its own, ended at the end."""
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(found[1] for line in driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            options = {"args": [*QUIET, f"--user-data-dir={profile}"], "binary": CHROMIUM}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in made, made
            try:
                yield Browser(client, made["sessionId"])
            finally:
                client.delete(f"/session/{made['sessionId']}")
    finally:
        driver.terminate()
        driver.communicate()
