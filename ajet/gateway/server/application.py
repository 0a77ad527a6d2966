"""The FastAPI application: the gateway's routes, without documentation pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from ajet.errors import AjetError, RequestError
from ajet.gateway.apis.routes import error_reply, routes
from ajet.gateway.completion import Reply
from ajet.gateway.server.endpoint import Endpoint, server_error_reply
from ajet.gateway.server.openapi import openapi


def make_app(endpoint: Endpoint, more_routes: Sequence[tuple[str, str]] = ()) -> FastAPI:
    """An application that serves every route of the gateway with one endpoint."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # An agent library may have set up OpenTelemetry for the whole process; its spans are not
        # about this server.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for method, path in [*routes(), *more_routes]:
        app.router.routes.append(Route(path, endpoint, methods=[method]))
    app.add_exception_handler(HTTPException, _no_route)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _internal_error)
    document = openapi()
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


async def _no_route(request: Request, error: HTTPException) -> Response:
    """The 404 and 405 errors in the shape of the path's API."""
    served = ", ".join(" ".join(route) for route in routes())
    reply = server_error_reply(
        request.url.path,
        RequestError(
            f"{request.method} {request.url.path}: {error.detail}; there are {served}",
            code="not_found",
            status=error.status_code,
        ),
    )
    return _response(reply, error.headers or {})


async def _internal_error(request: Request, error: Exception) -> Response:
    """A 500 error; the exception goes to the log and not to the client."""
    return _response(error_reply(request.url.path, AjetError("internal error")), {})


def _response(reply: Reply, more_headers: Mapping[str, str]) -> Response:
    headers = {**reply.headers, **more_headers}
    return Response(reply.body, status_code=reply.status, headers=headers)
