"""The FastAPI application: the gateway's routes, and nothing to look at."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from ajet.errors import AjetError, RequestError
from ajet.gateway.apis.routes import ROUTES, Reply, error_reply
from ajet.gateway.server.endpoint import Endpoint, refusal
from ajet.gateway.server.openapi import openapi


def make_app(endpoint: Endpoint) -> FastAPI:
    """Every route of the gateway, over one endpoint."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # An agent library may have set up OpenTelemetry for the whole process: not for this.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for method, path in ROUTES:
        app.router.routes.append(Route(path, endpoint, methods=[method]))
    app.add_exception_handler(HTTPException, _no_route)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _our_fault)
    document = openapi()
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


async def _no_route(request: Request, error: HTTPException) -> Response:
    """404 and 405, in the API's shape."""
    there = ", ".join(" ".join(route) for route in ROUTES)
    reply = refusal(
        request.url.path,
        RequestError(
            f"{request.method} {request.url.path}: {error.detail}; there are {there}",
            code="not_found",
            status=error.status_code,
        ),
    )
    return _response(reply, error.headers or {})


async def _our_fault(request: Request, error: Exception) -> Response:
    """500; the error itself goes to the log and not to the client."""
    return _response(error_reply(request.url.path, AjetError("internal error")), {})


def _response(reply: Reply, more_headers: Mapping[str, str]) -> Response:
    headers = {**reply.headers, **more_headers}
    return Response(reply.body, status_code=reply.status, headers=headers)
