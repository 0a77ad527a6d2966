"""What the routes take and give, as OpenAPI.

FastAPI makes it, of routes that only say so. Those that serve hand the body to the gateway as it
came: to check it here as well would cost twice, and FastAPI's errors are not the API's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Security
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from ajet.tuner.api import ROUTES
from ajet.tuner.chat_request import ChatRequest

REQUESTS: dict[str, type[BaseModel]] = {"/v1/chat/completions": ChatRequest}
"""Path -> the body of its requests."""

KEYS = [
    Security(HTTPBearer(auto_error=False)),
    Security(APIKeyHeader(name="x-api-key", auto_error=False)),
]


class Error(BaseModel):
    """What is wrong, and with which field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every refusal."""

    error: Error


def openapi() -> dict[str, Any]:
    """The document of `/openapi.json`."""
    routes = [
        APIRoute(
            path,
            _endpoint(REQUESTS.get(path)),
            methods=[method],
            name=path.removeprefix("/v1/").replace("/", "_"),
            dependencies=KEYS,
            responses={"4XX": {"model": ErrorAnswer}, 503: {"model": ErrorAnswer}},
        )
        for method, path in ROUTES
    ]
    return get_openapi(title="AgentJet gateway", version="1", routes=routes)


def _endpoint(body_type: type[BaseModel] | None) -> Callable[..., Any]:
    def without_body() -> None:
        pass

    def with_body(body: Any) -> None:
        pass

    if body_type is None:
        return without_body
    with_body.__annotations__ = {"body": body_type}
    return with_body
