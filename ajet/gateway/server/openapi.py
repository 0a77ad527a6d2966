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

from ajet.gateway.apis.chat_completions.request import ChatRequest
from ajet.gateway.apis.messages.request import MessagesRequest
from ajet.gateway.apis.responses.request import ResponsesRequest
from ajet.gateway.apis.routes import ROUTES

REQUESTS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
}
"""Path -> the parameters that are honoured in the body of its requests."""

KEYS = [
    Security(HTTPBearer(auto_error=False)),
    Security(APIKeyHeader(name="x-api-key", auto_error=False)),
]


def openapi() -> dict[str, Any]:
    """The document of `/openapi.json`."""
    routes = [
        APIRoute(
            path,
            _endpoint(REQUESTS.get(path)),
            methods=[method],
            name=path.removeprefix("/v1/").replace("/", "_"),
            dependencies=KEYS,
            responses=_RESPONSES | (_STREAM if path in REQUESTS else {}),
        )
        for method, path in ROUTES
    ]
    document = get_openapi(title="AgentJet gateway", version="1", routes=routes)
    for request in REQUESTS.values():
        parameters = document["components"]["schemas"][request.__name__]["properties"]
        parameters["model"] = {"description": "Any name: the policy answers."}
        if "messages" in parameters:
            parameters["messages"] = {"type": "array", "minItems": 1, "items": _MESSAGE}
    return document


_TEXT = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT}]},
    },
    "required": ["role", "content"],
    "description": "What both APIs have; beyond it each takes its own kinds of messages.",
}
_ERROR = {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is at fault; nothing of it is kept.", "content": _ERROR},
    503: {"description": "The engine failed, or the server is stopping.", "content": _ERROR},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer.", "content": {"text/event-stream": {}}}
}


def _endpoint(request: type[BaseModel] | None) -> Callable[..., Any]:
    def without_body() -> None:
        pass

    def with_body(body: Any) -> None:
        pass

    if request is None:
        return without_body
    with_body.__annotations__ = {"body": request}
    return with_body
