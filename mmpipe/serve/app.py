"""The routes: `/predict`, `/healthz`, `/metrics`, and `/`, a page to try the model on."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from mmpipe import __version__
from mmpipe.errors import FIXES
from mmpipe.serve import metrics, page, uploads
from mmpipe.serve.current import Current
from mmpipe.serve.guard import Guard
from mmpipe.serve.limits import Limits
from mmpipe.serve.members import HISTORY
from mmpipe.serve.refused import GONE, Refused
from mmpipe.serve.service import Service

_FILE = {"type": "string", "format": "binary"}
_TURN = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
_FORM = {name: {"type": "string"} if name in uploads.WORDS else _FILE for name in uploads.FIELDS}
_JSON: dict[str, Any] = {key: {"type": ["string", "null"]} for key in uploads.KEYS}
_JSON[HISTORY] = {"type": ["array", "string", "null"], "items": _TURN}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "properties": _FORM}},
        "application/json": {
            "schema": {"type": "object", "additionalProperties": False, "properties": _JSON}
        },
    },
}


def create_app(
    current: Current,
    limits: Limits,
    *,
    hosts: frozenset[str] | None = None,
    token: bytes | None = None,
) -> ASGIApp:
    """The application. `hosts`: names that it answers to, None = any. `token`: None = none is needed."""
    service = Service(current, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(title="mmpipe", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    _handle_errors(app, service)
    _add_routes(app, service, words=token is None)
    return Guard(app, hosts=hosts, token=token, metrics=service.metrics)


def _add_routes(app: FastAPI, service: Service, *, words: bool) -> None:
    """`words`: whether anybody who asks for /healthz is told why a reload failed."""
    shown = page.load()

    @app.post("/predict", openapi_extra={"requestBody": _BODY})
    async def predict(request: Request, explain: bool = False) -> JSONResponse:
        """What the model says of any of a picture, a text and a recording: a label, a number, …"""
        return JSONResponse(vars(await service.predict(request, explain=explain)))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Which model answers, and why no newer one does."""
        return _health(service, words=words)

    @app.get("/metrics")
    async def counted() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        headers = {"Content-Security-Policy": shown.policy}
        return Response(shown.html, media_type="text/html; charset=utf-8", headers=headers)


def _health(service: Service, *, words: bool) -> JSONResponse:
    """`words`: of a failed reload; they name paths, and where there is a token anybody may ask for this."""
    problem, predictor = service.current.problem, service.current.predictor
    found: dict[str, Any] = {"status": service.state}
    if predictor is not None:
        found |= {"model": predictor.name, "bundle_sha256": predictor.bundle.digest}
        found |= {"modalities": predictor.modalities, "task": predictor.bundle.task_name}
        found |= {"turns": predictor.turns}
    if problem is not None:
        code, what = problem
        found["reload"] = {"code": code, **({"what": what, "fix": FIXES[code]} if words else {})}
    return JSONResponse(found, 200 if found["status"] == "ready" else 503)


def _handle_errors(app: FastAPI, service: Service) -> None:
    """Every error is an answer with a code."""

    def told(refused: Refused) -> Response:
        service.metrics.refused(refused.code)
        return refused.answer()

    @app.exception_handler(Refused)
    async def on_refused(_request: Request, error: Refused) -> Response:
        return told(error)

    @app.exception_handler(ClientDisconnect)
    async def on_gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = "http-method" if error.status_code == 405 else "http-path"
        return told(Refused(code, f"there is no {request.method} {request.url.path[:100]}"))

    @app.exception_handler(RequestValidationError)
    async def on_query(_request: Request, _error: RequestValidationError) -> Response:
        return told(Refused("http-body", "`explain` in the query is true or false"))

    @app.exception_handler(Exception)
    async def on_bug(_request: Request, error: Exception) -> Response:
        return told(Refused("internal", type(error).__name__))
