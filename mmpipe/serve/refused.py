"""Why a request gets no prediction: an error code, its HTTP status, and words as JSON."""

from starlette.responses import JSONResponse

from mmpipe.errors import FIXES

ROW_FAULT = 422
STATUSES = {
    "http-body": 400,
    "http-token": 401,
    "http-origin": 403,
    "http-path": 404,
    "http-method": 405,
    "http-slow": 408,
    "http-too-large": 413,
    "http-media": 415,
    "http-host": 421,
    "internal": 500,
    "http-busy": 503,
    "http-late": 504,
}
"""Code → status; every other code is a fault of what was sent: 422."""
GONE = 499
"""The client hung up: nobody reads this answer, but it is counted."""
RETRY_S = 1


class Refused(Exception):
    """`code` is a key of `errors.FIXES`."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{code} {what}")
        self.code = code
        self.what = what

    def answer(self) -> JSONResponse:
        """`{"code": …, "what": …, "fix": …}`."""
        headers = {}
        if self.code == "http-token":
            # Basic first: Chromium asks for no password where it comes second
            headers["WWW-Authenticate"] = 'Basic realm="mmpipe", Bearer realm="mmpipe"'
        if self.code == "http-busy":
            headers["Retry-After"] = str(RETRY_S)
        content = {"code": self.code, "what": self.what, "fix": FIXES[self.code]}
        return JSONResponse(content, STATUSES.get(self.code, ROW_FAULT), headers)
