"""The self-contained reports of the last runs over HTTP, on loopback, with the server's own password."""

import base64
import hmac
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flows.settings import HOST, Place

_PAGE = re.compile(r"/(\d+\.html)")


def serve(place: Place, port: int) -> str:
    """Serve them in a thread that ends with this process; the address to put a page's name behind.

    Where `port` is taken, at any other: links of earlier runs then lead nowhere.
    """
    token = base64.b64encode(place.password().encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        """GET /<number>.html, nothing else."""

        def do_GET(self) -> None:
            """The page, 401 without the password, 404 for all else."""
            if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Basic {token}"):
                self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="mmpipe"'})
                return
            name = _PAGE.fullmatch(self.path)
            page = place.reports / name[1] if name else None
            if page is None or not page.is_file():
                self._answer(404, b"no such report\n", {})
                return
            policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
            headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
            self._answer(200, page.read_bytes(), headers)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError:
        server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, name="reports", daemon=True).start()
    return f"http://{HOST}:{server.server_port}"
