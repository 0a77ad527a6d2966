"""The FastAPI application: the page's files, and `/api/NAME`."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from ajet.errors import RequestError
from ajet.viewer.api import ViewerApi

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parents[1] / "static"


def make_app(api: ViewerApi) -> FastAPI:
    """Everything behind the access check."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.get("/api/{name}")
    def answer(name: str, request: Request) -> Response:
        # A plain function: it runs in a thread, since it reads files.
        try:
            return _json(api.answer(name, request.query_params), 200)
        except RequestError as error:
            return _json({"error": str(error)}, error.status)

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(Exception, _our_fault)
    return app


async def _our_fault(request: Request, error: Exception) -> Response:
    """500; the error itself goes to the log and not to the client."""
    logger.error("%s: %s", request.url.path, error, exc_info=error)
    return _json({"error": "internal error: see the log of ajet view"}, 500)


def _json(value: object, status: int) -> Response:
    return Response(to_json(value), status_code=status, media_type="application/json")


def to_json(value: Any) -> bytes:
    """ASCII only, so that lone surrogates survive; NaN and infinity become their names."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
